# SPDX-License-Identifier: Apache-2.0
"""What a healing is asked to do: part of JobSpec, so no torch here."""

from typing import Literal, Self

from pydantic import Field, model_validator

from core.errors import SpecError
from core.recipe import Frozen


class Healing(Frozen):
    """How a converted model learns from the original; which original is JobSpec's model."""

    source: str = Field(
        min_length=1,
        description="the converted model: a folder this workbench wrote, or job:ID for a job's result",
    )
    text: str = Field(
        "wikipedia",
        description="named texts, UTF-8, .jsonl or .parquet files, or hub:OWNER/NAME; several with weights: "
        "wikipedia:0.8,news:0.2",
    )
    text_field: str = Field("text", description="what a record of .jsonl, .parquet or the Hub calls its text")
    tokens: int = Field(100_000, ge=32, le=10**12, description="tokens trained on, at most")
    context: int = Field(256, ge=16, le=131_072, description="tokens per window; windows are packed")
    windows: int = Field(4, ge=1, le=4096, description="windows per forward pass")
    accumulate: int = Field(1, ge=1, le=4096, description="forward passes per step of the optimiser")
    repeat: bool = Field(False, description="read a text that is too short for the tokens more than once")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="draws windows and their order, and adapters")
    trainable: Literal["attention", "all", "lora"] = Field(
        "attention",
        description="attention: latent factors, queries, output and factored linear layers; all: every "
        "weight; lora: adapters on the attention, merged at the end",
    )
    lora_rank: int = Field(16, ge=1, le=4096, description="rank of the adapters, with lora")
    learning_rate: float = Field(
        1e-3, gt=0, le=1, description="highest rate of AdamW, as a share of the typical size of each weight"
    )
    weight_decay: float = Field(0.0, ge=0, le=1, description="of AdamW")
    schedule: Literal["cosine", "1-sqrt"] = Field(
        "cosine", description="after the warm-up: cosine to 0, or constant and then 1-sqrt as in MHA2MLA"
    )
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps in which the rate rises")
    decay: float = Field(
        0.2, gt=0, le=1, description="share of the steps that 1-sqrt falls in, the last ones"
    )
    clip: float = Field(1.0, ge=0, description="largest norm of the gradient; 0 does not clip")
    top_k: int = Field(
        64,
        ge=0,
        le=1_000_000,
        description="most likely tokens of the teacher that are stored, the rest as one; 0 stores none and "
        "runs the teacher beside the student, over the whole vocabulary",
    )
    temperature: float = Field(1.0, gt=0, le=100, description="of teacher and student in the KL divergence")
    cross_entropy: float = Field(
        0.0, ge=0, le=1, description="share of the text's own next token in the loss"
    )
    hidden_loss: float = Field(
        0.0, ge=0, description="weight of the error of hidden states after each layer; runs the teacher, too"
    )
    attention_loss: float = Field(
        0.0, ge=0, description="weight of the error of attention outputs; runs the teacher, too"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of products; auto is bfloat16 where the device multiplies it faster"
    )
    checkpoint_activations: bool = Field(
        False, description="compute activations again instead of keeping them: less memory, a third more time"
    )
    held_out: int = Field(8, ge=1, le=10_000, description="windows held back to choose the best weights")
    evaluations: int = Field(20, ge=1, le=10_000, description="how often the held-back windows are looked at")
    patience: int = Field(
        8, ge=0, description="evaluations without a better one after which it stops; 0 never stops early"
    )
    target_kl: float = Field(
        0.0, ge=0, description="held-out KL in nats per token at which it is good enough; 0 has no target"
    )
    checkpoint_seconds: float = Field(120.0, gt=0, description="how often the state is stored to resume from")

    @property
    def step_tokens(self) -> int:
        """Tokens of one step of the optimiser, on one process."""
        return self.context * self.windows * self.accumulate

    @property
    def steps(self) -> int:
        """Steps that the tokens are enough for."""
        return self.tokens // self.step_tokens

    @property
    def runs_teacher(self) -> bool:
        """Whether the teacher runs beside the student, not from its cache."""
        return self.top_k == 0 or self.hidden_loss > 0 or self.attention_loss > 0

    @model_validator(mode="after")
    def _one_step_is_there(self) -> Self:
        if self.steps < 1:
            raise SpecError(
                f"{self.tokens} tokens are less than one step of {self.step_tokens}",
                hint="ask for more tokens, or for smaller context, windows or accumulate",
                field="heal.tokens",
            )
        if self.temperature != 1 and self.cross_entropy == 1:
            raise SpecError(
                "a temperature does nothing when only the text is learned",
                hint="set cross_entropy below 1",
                field="heal.temperature",
            )
        return self
