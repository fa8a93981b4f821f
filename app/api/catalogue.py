# SPDX-License-Identifier: Apache-2.0
"""What there is to choose from, and what a choice would cost. Reads facts, never weights."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from app.api.access import Bench
from app.services.estimate import Estimate, estimate
from app.services.model_sources import SearchAnswer
from app.services.models import recent_models
from core.facts import ModelFacts
from core.presets import PRESETS, Preset
from core.spec import JobSpec
from core.stages import STAGES

router = APIRouter(tags=["catalogue"])


class StageBody(BaseModel):
    """One question of a recipe."""

    question: str
    ready: dict[str, str] = Field(description="choice -> what it does")


@router.get("/models")
def list_models(bench: Bench) -> list[str]:
    """The demo and the models converted lately."""
    return recent_models(bench)


@router.get("/models/search")
def search_models(
    bench: Bench,
    q: Annotated[str, Query(max_length=200, description="part of the name, three letters or more")] = "",
) -> SearchAnswer:
    """Models in the allowed folders, in the Hub's cache and, when online, on the Hub."""
    return bench.sources.search(bench.settings, q)


@router.get("/models/facts")
def model_facts(
    bench: Bench,
    model: Annotated[str, Query(min_length=1, description="a local folder, a Hub id, or demo")],
    revision: str | None = None,
) -> ModelFacts:
    """Shape and cache cost of a model, from its config and safetensors headers."""
    return bench.facts.read(model, revision, bench.settings)


@router.get("/presets")
def list_presets() -> list[Preset]:
    """The published methods, as recipes with a budget."""
    return list(PRESETS.values())


@router.get("/stages")
def list_stages() -> dict[str, StageBody]:
    """Every stage of a recipe with its choices."""
    return {name: StageBody(question=one.question, ready=dict(one.ready)) for name, one in STAGES.items()}


@router.post("/plan")
def plan(
    bench: Bench,
    spec: JobSpec,
    context: Annotated[int, Query(ge=1, le=100_000_000)] = 8192,
    batch: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> Estimate:
    """What every layer will look like and cost. `problems` says what blocks it; nothing is stored."""
    said: dict[str, Any] = {"model": spec.model} | spec.model_dump(exclude_unset=True)
    return estimate(bench, said, context, batch)
