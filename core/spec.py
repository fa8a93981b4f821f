# SPDX-License-Identifier: Apache-2.0
"""JobSpec: the single contract of the form, the REST API, the command line and the database."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from core.errors import SpecError
from core.stages import STAGES, check_choice


class Frozen(BaseModel):
    """Base of every value that crosses a process: immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# value of Recipe.freqfold: folds that widen as pairs turn more slowly
GRADED = 0


class Recipe(Frozen):
    """One choice for each stage; see core/stages.py for what each choice means."""

    rope_select: str = Field("2-norm", description=STAGES["rope_select"].question)
    rope_select_start: int = Field(0, ge=0, description="first pair of rope_select=uniform")
    rope_mix: str = Field("none", description=STAGES["rope_mix"].question)
    rope_derotate: str = Field("identity", description=STAGES["rope_derotate"].question)
    factor_input: str = Field("identity", description=STAGES["factor_input"].question)
    factor_output: str = Field("identity", description=STAGES["factor_output"].question)
    factor_form: str = Field("joint", description=STAGES["factor_form"].question)
    allocate: str = Field("uniform", description=STAGES["allocate"].question)
    layout: str = Field("latent+rope", description=STAGES["layout"].question)
    freqfold: int = Field(
        1,
        ge=0,
        le=1024,
        description="neighbouring frequencies folded into one by rope_mix; 0 widens the folds as pairs slow",
    )
    mean_bias: bool = Field(
        False, description="biases make up for the mean of what is cut; the factors then fit the rest"
    )
    refit_output: bool = Field(
        False, description="W_O is fitted anew to what attention over the smaller cache gives it"
    )

    @field_validator(*STAGES)
    @classmethod
    def _is_implemented(cls, value: str, info: Any) -> str:
        return check_choice(info.field_name, value)

    @property
    def needs_fisher(self) -> bool:
        """Whether a backward pass over the calibration text is needed."""
        return (
            self.factor_input == "root-fisher"
            or self.factor_output == "fisher"
            or self.allocate == "loss-aware"
            or self.needs_derotation
        )

    @property
    def needs_derotation(self) -> bool:
        """Whether that backward pass has to find the constants that replace rotations."""
        return self.rope_derotate == "expected"

    @model_validator(mode="after")
    def _choices_fit(self) -> Self:
        rope = (self.rope_select, self.rope_mix, self.rope_derotate)
        if self.layout == "pre-rope" and rope != ("2-norm", "none", "identity"):
            raise SpecError(
                "the pre-rope layout drops no rotation, so there is nothing to select, mix or replace",
                hint="leave rope_select 2-norm, rope_mix none and rope_derotate identity, or take layout "
                "latent+rope",
                field="recipe.layout",
            )
        if self.rope_mix == "none" and self.freqfold != 1:
            raise SpecError(
                f"freqfold {self.freqfold} has no meaning without rope_mix",
                hint="set it to 1, or choose rope_mix roro or complex",
                field="recipe.freqfold",
            )
        if self.rope_mix != "none" and self.rope_select == "2-norm":
            raise SpecError(
                "rope_select 2-norm looks at single heads, and rope_mix leaves none",
                hint="choose rope_select logit-damage or uniform, or rope_mix none",
                field="recipe.rope_select",
            )
        return self

    @model_validator(mode="after")
    def _start_is_of_uniform(self) -> Self:
        if self.rope_select_start and self.rope_select != "uniform":
            raise SpecError(
                f"rope_select_start {self.rope_select_start} has no meaning with '{self.rope_select}'",
                hint="set it to 0, or choose rope_select uniform",
                field="recipe.rope_select_start",
            )
        return self


class Calibration(Frozen):
    """The text whose activations the recipe may look at."""

    text: str = Field(
        "wikipedia",
        description="named texts (see core/calibrate/text.py) or UTF-8 files; several, joined with +, are "
        "read in equal shares",
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

    kind: Literal["convert", "profile"] = Field(
        "convert",
        description="profile looks at the model once; of its spec model, calibration and device count",
    )
    model: str = Field("demo", min_length=1, description="a local folder, a Hub id, or demo")
    revision: str | None = Field(None, description="branch, tag or commit of a Hub model")
    preset: str | None = Field(None, description="name of the preset the recipe came from")
    recipe: Recipe = Recipe()
    keep: float | None = Field(
        0.3125, description="fraction of KV-cache bytes that stays, above 0, at most 1"
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
    def allocates(self) -> bool:
        """Whether an allocation over layers is chosen: not when ranks are given layer by layer."""
        return self.recipe.allocate != "uniform" and self.layer_ranks is None

    @model_validator(mode="after")
    def _gradients_are_there(self) -> Self:
        if self.recipe.needs_fisher and not self.calibration.fisher_tokens:
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
        raise SpecError(
            f"{field}: {first['msg']}", hint=_help_for(field) or "see the fields of JobSpec", field=field
        ) from error


def _help_for(field: str) -> str:
    """What the innermost part of a dotted name that has a description says."""
    model: type[BaseModel] = JobSpec
    found = ""
    for name in field.split("."):
        info = model.model_fields.get(name)
        found = (info.description or found) if info else found
        if info is None or not isinstance(info.default, BaseModel):
            break
        model = type(info.default)
    return found
