# SPDX-License-Identifier: Apache-2.0
"""JobSpec: the single contract of the form, the REST API, the command line and the database."""

from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from core.errors import SpecError
from core.further.spec import Measurements
from core.heal.spec import Healing as Healing
from core.recipe import GRADED as GRADED
from core.recipe import IDENTITY_JUNCTION
from core.recipe import Frozen as Frozen
from core.recipe import Recipe as Recipe
from core.spec_help import help_for


class Calibration(Frozen):
    """The text whose activations the recipe may look at."""

    text: str = Field(
        "wikipedia",
        description="named texts (see core/calibrate/text.py), UTF-8 files, or .jsonl files of images with "
        "texts for a model that sees; several, joined with +, are read in equal shares",
    )
    tokens: int = Field(32_768, ge=64, le=10_000_000, description="tokens read")
    context: int = Field(512, ge=16, le=131_072, description="tokens per window")
    sampling: Literal["spread", "start"] = Field(
        "spread",
        description="windows drawn from all over each text by seed, or the first ones; spread loses less",
    )
    fisher_tokens: int = Field(
        4_096,
        ge=0,
        le=10_000_000,
        description="how many of the tokens go through the backward pass too, when the recipe needs it; "
        "0 switches it off",
    )
    refit_tokens: int = Field(
        8_192,
        ge=64,
        le=10_000_000,
        description="how many of the tokens W_O is fitted anew on, when the recipe does",
    )
    shrinkage: float = Field(
        1e-6,
        ge=0,
        le=1,
        description="added to the diagonal of the input covariance, relative to its mean",
    )
    # LLaVA 1.5 makes 576 tokens of an image, and a question with its answer has some 60
    image_weight: float = Field(
        0.1,
        gt=0,
        le=100,
        description="how much a token of an image counts beside one of text in the moments of inputs; 0.1 "
        "gives an image of 576 tokens about the say of its text, 1 counts all alike",
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**32 - 1,
        description="draws the windows, the labels of the backward pass and the attention maps",
    )

    @property
    def window_seed(self) -> int | None:
        """What draws the windows; None takes the first ones."""
        return self.seed if self.sampling == "spread" else None


class Evaluation(Frozen):
    """The held-out text on which original and converted model are compared."""

    text: str = Field(
        "wikipedia-heldout", description="a named text or a UTF-8 file, best not the calibration's"
    )
    context: int = Field(512, ge=16, le=131_072, description="tokens per window")
    windows: int = Field(8, ge=1, le=100_000, description="windows, from the start of the text")


class JobSpec(Frozen):
    """Everything a job needs; equal specs on equal weights give byte-identical results."""

    kind: Literal["convert", "profile", "heal", "evaluate"] = Field(
        "convert",
        description="profile looks at the model once; of its spec model, calibration and device count. heal "
        "trains a converted model: model is its teacher, the recipe is how it was converted. evaluate "
        "measures model and what was converted from it",
    )
    model: str = Field("demo", min_length=1, description="a local folder, a Hub id, or demo")
    heal: Healing | None = Field(None, description="how a converted model is trained, with kind heal")
    evaluate: Measurements | None = Field(None, description="what is measured, with kind evaluate")
    revision: str | None = Field(None, description="branch, tag or commit of a Hub model")
    preset: str | None = Field(None, description="name of the preset the recipe came from")
    recipe: Recipe = Recipe()
    keep: float | None = Field(
        0.3125,
        description="fraction of KV-cache bytes that stays, above 0, at most 1, as long as a number has the "
        "model's bits; recipe.latent_bits comes on top",
    )
    weights_keep: float | None = Field(
        None,
        description="fraction of the parameters of the linear layers that stays, above 0, at most 1; null "
        "leaves all but keys and values as they are",
    )
    rope_dim: int | None = Field(
        None, description="rotary dims kept per head, even; wins over keep (with kv_rank)"
    )
    kv_rank: int | None = Field(
        None, description="latent numbers per KV head, as MHA2MLA counts; wins over keep"
    )
    layer_ranks: tuple[int, ...] | None = Field(
        None,
        description="latent width of each layer, over all heads; wins over keep, and no allocation is chosen",
    )
    rope_pairs: tuple[tuple[tuple[int, ...], ...], ...] | None = Field(
        None,
        description="pairs that keep RoPE: for each layer and KV head their indices; wins over rope_select",
    )
    calibration: Calibration = Calibration()
    evaluation: Evaluation | None = Field(Evaluation(), description="null skips the measurement")
    dtype: Literal["checkpoint", "float32", "bfloat16", "float16"] = Field(
        "checkpoint", description="dtype of the written weights"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where layers are run")
    shard_bytes: int = Field(5_000_000_000, ge=1_000_000, description="largest size of one weight file")

    @field_validator("keep")
    @classmethod
    def _keep_is_a_fraction(cls, value: float | None) -> float | None:
        if value is not None and not 0 < value <= 1:
            raise SpecError(
                f"keep must be above 0 and at most 1, got {value:g}",
                hint="0.3125 keeps 31.25 % of the cache bytes; 1 keeps the model exact",
                field="keep",
            )
        return value

    @field_validator("weights_keep")
    @classmethod
    def _weights_keep_is_a_fraction(cls, value: float | None) -> float | None:
        if value is not None and not 0 < value <= 1:
            raise SpecError(
                f"weights_keep must be above 0 and at most 1, got {value:g}",
                hint="0.8 keeps 80 % of the parameters of the linear layers; null leaves them as they are",
                field="weights_keep",
            )
        return value

    @field_validator("rope_dim")
    @classmethod
    def _rope_dim_is_pairs(cls, value: int | None) -> int | None:
        if value is not None and (value < 0 or value % 2):
            raise SpecError(
                f"rope_dim must be even and not negative, got {value}",
                hint="rotary dims come in pairs, two per frequency",
                field="rope_dim",
            )
        return value

    @field_validator("kv_rank")
    @classmethod
    def _kv_rank_is_positive(cls, value: int | None) -> int | None:
        if value is not None and value < 1:
            raise SpecError(
                f"kv_rank must be at least 1, got {value}",
                hint="the latent of a head needs at least one number",
                field="kv_rank",
            )
        return value

    @field_validator("layer_ranks")
    @classmethod
    def _every_layer_has_a_latent(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        for layer, rank in enumerate(value or ()):
            if rank < 1:
                raise SpecError(
                    f"layer_ranks: layer {layer} has rank {rank}",
                    hint="the latent of a layer needs at least one number",
                    field="layer_ranks",
                )
        return value

    @field_validator("rope_pairs")
    @classmethod
    def _pairs_are_sets(cls, value: Any) -> Any:
        """Ascending, so that equal choices are equal specs."""
        for layer, rows in enumerate(value or ()):
            for head, pairs in enumerate(rows):
                if len(set(pairs)) < len(pairs) or any(pair < 0 for pair in pairs):
                    raise SpecError(
                        f"rope_pairs: layer {layer}, KV head {head} names a pair twice or below 0",
                        hint="name each pair that keeps RoPE once, from 0",
                        field="rope_pairs",
                    )
        return value and tuple(tuple(tuple(sorted(pairs)) for pairs in rows) for rows in value)

    @model_validator(mode="after")
    def _widths_are_said_once(self) -> Self:
        for own, usual in (("layer_ranks", "kv_rank"), ("rope_pairs", "rope_dim")):
            if getattr(self, own) is not None and getattr(self, usual) is not None:
                raise SpecError(
                    f"{own} and {usual} both set the same widths", hint=f"set {usual} to null", field=usual
                )
        return self

    @property
    def makes_model(self) -> bool:
        """Whether the result is a converted model: profiles and evaluations make none."""
        return self.kind in ("convert", "heal")

    @model_validator(mode="after")
    def _healing_is_said_where_it_counts(self) -> Self:
        if (self.kind == "heal") != (self.heal is not None):
            raise SpecError(
                "kind heal and the field heal belong together",
                hint='set kind to heal and heal to {"source": FOLDER}, or neither',
                field="heal",
            )
        return self

    @model_validator(mode="after")
    def _weights_are_to_be_smaller(self) -> Self:
        idle = self.recipe.of_weights_changed if self.weights_keep is None else []
        if idle:
            raise SpecError(
                f"{idle[0]} {getattr(self.recipe, idle[0])} has no meaning without weights_keep",
                hint=f"set weights_keep, such as 0.8, or leave out {', '.join(idle)}",
                field=f"recipe.{idle[0]}",
            )
        return self

    @model_validator(mode="after")
    def _channels_can_mix(self) -> Self:
        recipe = self.recipe
        is_fixed = self.weights_keep is not None and recipe.junction == IDENTITY_JUNCTION
        if recipe.latent_bits < 16 and is_fixed and not recipe.is_split:
            raise SpecError(
                "few bits need a latent of mixed channels, and block-identity makes it a part of the inputs",
                hint="set recipe.junction to right, or recipe.latent_bits to 16",
                field="recipe.latent_bits",
            )
        return self

    @property
    def allocates(self) -> bool:
        """Whether an allocation over layers is chosen: not when ranks are given layer by layer."""
        return self.recipe.allocate != "uniform" and self.layer_ranks is None

    @property
    def loses_more_than_rank(self) -> bool:
        """Whether smaller weights or few bits lose what no profile knows; 8 bits lose next to nothing."""
        return self.weights_keep is not None or self.recipe.latent_bits < 8

    @property
    def allocates_weights(self) -> bool:
        """Whether an allocation of the weights is chosen."""
        return self.weights_keep is not None and self.recipe.linear_allocate != "uniform"

    @property
    def needs_fisher(self) -> bool:
        """Whether a backward pass over the calibration text is needed."""
        weighs = self.weights_keep is not None and self.recipe.linear_form == "joint"
        return self.recipe.needs_fisher or self.allocates_weights or weighs

    @model_validator(mode="after")
    def _gradients_are_there(self) -> Self:
        if self.needs_fisher and not self.calibration.fisher_tokens:
            raise SpecError(
                "the recipe weighs by the loss, and fisher_tokens 0 switches the backward pass off",
                hint="set fisher_tokens to 4096, or choose other metrics, constants and allocation",
                field="calibration.fisher_tokens",
            )
        return self


def parse_spec(data: dict[str, Any]) -> JobSpec:
    """Build a JobSpec from untrusted data; raises SpecError naming the field and the fix."""
    try:
        return JobSpec.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        hint = help_for(JobSpec, field) or "see the fields of JobSpec"
        raise SpecError(f"{field}: {first['msg']}", hint=hint, field=field) from error
