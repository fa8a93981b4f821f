# SPDX-License-Identifier: Apache-2.0
"""What an evaluation job is asked to measure: part of JobSpec, so no torch here."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from core.errors import SpecError
from core.recipe import Frozen

RetrievalTask = Literal[
    "single-noise",
    "single-essay",
    "multikey",
    "multikey-needles",
    "multivalue",
    "multiquery",
    "variable-tracking",
    "common-words",
]
Context = Annotated[int, Field(ge=16, le=131_072)]
# conversions beside one original
MOST = 6


class Measurements(Frozen):
    """Which models are measured on what; the original is JobSpec's model."""

    conversions: tuple[str, ...] = Field(
        (), max_length=MOST, description="converted models beside the original: folders, or job:ID"
    )
    texts: tuple[str, ...] = Field(
        ("wikipedia-heldout", "news"), max_length=16, description="named texts or UTF-8 files"
    )
    contexts: tuple[Context, ...] = Field((512, 2048), max_length=8, description="tokens per window")
    windows: int = Field(8, ge=1, le=100_000, description="windows of every text and context")
    retrieval: tuple[RetrievalTask, ...] = Field((), description="retrieval tasks, after RULER")
    retrieval_contexts: tuple[Context, ...] = Field(
        (1024,), max_length=8, description="tokens of a retrieval question, its answer included"
    )
    samples: int = Field(20, ge=2, le=10_000, description="questions of every task and context")
    essay: str = Field("wikipedia-heldout", description="text that needles are hidden in")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="draws the questions")
    harness: tuple[str, ...] = Field(
        (), max_length=64, description="tasks of lm-eval, or the sets commonsense and longbench"
    )
    harness_folder: str | None = Field(None, description="a folder of lm-eval tasks (YAML) with local data")
    harness_limit: int | None = Field(
        None, ge=1, description="first questions of every lm-eval task; null asks all"
    )

    @model_validator(mode="after")
    def _something_is_measured(self) -> Self:
        if not (self.texts and self.contexts) and not self.retrieval and not self.harness:
            raise SpecError(
                "this evaluation measures nothing",
                hint="name texts and contexts, retrieval tasks, or lm-eval tasks",
                field="evaluate.texts",
            )
        return self
