# SPDX-License-Identifier: Apache-2.0
"""Recipe: one choice for each stage of a conversion."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from core.errors import SpecError
from core.stages import STAGES, check_choice


class Frozen(BaseModel):
    """Base of every value that crosses a process: immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# fields of Recipe that matter only beside a budget of weights
OF_WEIGHTS = ("linear_input", "linear_form", "junction", "linear_allocate", "sparse_share", "factor_bits")
# value of Recipe.junction that spares r^2 numbers
IDENTITY_JUNCTION = "block-identity"
# values of Recipe.factor_form that give keys and values a latent each
SPLIT_FORMS = ("split", "joint-qk-vo")
JOINT_QK_VO = "joint-qk-vo"
# value of Recipe.freqfold: folds that widen as pairs turn more slowly
GRADED = 0


def without_weights(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a recipe without those that have no meaning when the budget of weights is gone."""
    return {name: value for name, value in fields.items() if name not in OF_WEIGHTS}


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
    key_weight: float = Field(
        1.0,
        ge=0.01,
        le=100,
        description="how much an error of the keys counts beside one of the values, times what factor_output "
        "says; 1 leaves it at that",
    )
    mean_bias: bool = Field(
        False, description="biases make up for the mean of what is cut; the factors then fit the rest"
    )
    refit_output: bool = Field(
        False, description="W_O is fitted anew to what attention over the smaller cache gives it"
    )
    latent_bits: Literal[2, 4, 8, 16] = Field(
        16,
        description="bits of a cached number of the latent, beside one byte for each token: 8, 4 or 2, or 16 "
        "for the model's dtype. The budget counts numbers, so bits make the cache smaller still",
    )

    linear_input: str = Field("root-covariance", description=STAGES["linear_input"].question)
    linear_form: str = Field("joint", description=STAGES["linear_form"].question)
    junction: str = Field(IDENTITY_JUNCTION, description=STAGES["junction"].question)
    linear_allocate: str = Field("loss-aware", description=STAGES["linear_allocate"].question)
    sparse_share: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="share of a factored layer's numbers that go into a sparse residual; an MLP that has one "
        "is not refitted",
    )
    factor_bits: Literal[8, 16] = Field(
        16, description="bits of a number of the factors: 8 with a scale per row, or 16 for the model's dtype"
    )

    @field_validator("latent_bits", "factor_bits", mode="before")
    @classmethod
    def _bits_may_be_text(cls, value: Any) -> Any:
        """A command line says "8", and a Literal takes nothing but the number."""
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    @field_validator(*STAGES)
    @classmethod
    def _is_implemented(cls, value: str, info: Any) -> str:
        return check_choice(info.field_name, value)

    @property
    def is_split(self) -> bool:
        """Whether keys and values get a latent each."""
        return self.factor_form in SPLIT_FORMS

    @property
    def of_weights_changed(self) -> list[str]:
        """What only a budget of weights can mean, where it is not as usual."""
        return [name for name in OF_WEIGHTS if getattr(self, name) != type(self).model_fields[name].default]

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
    def _weight_has_something_to_weigh(self) -> Self:
        if self.is_split and self.key_weight != 1:
            raise SpecError(
                f"{self.factor_form} gives keys and values a latent each, so key_weight weighs nothing",
                hint="set key_weight to 1, or choose factor_form joint",
                field="recipe.key_weight",
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
