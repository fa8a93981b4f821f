# SPDX-License-Identifier: Apache-2.0
"""Tuning over REST: every layer of a request, ranks spread anew, targets, and the profile behind it all."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from app.api.access import Bench
from app.services import tuning
from app.services.errors import NotFoundError
from app.services.estimate import Estimate, estimate
from core.profiles import Profile
from core.spec import JobSpec

router = APIRouter(tags=["tuning"])


class LockedBody(BaseModel):
    """A request, and the layers whose ranks stay."""

    spec: JobSpec
    locked: dict[int, int] = Field(default_factory=dict, description="layer -> rank it keeps")


class RanksBody(BaseModel):
    """Latent widths of all layers, to be sent back as `layer_ranks`."""

    layer_ranks: list[int]


class TargetBody(BaseModel):
    """A request, and what is wanted instead of its budget."""

    spec: JobSpec
    target: tuning.Target


class KeepBody(BaseModel):
    """The budget that reaches a target, to be sent back as `keep`."""

    keep: float


@router.post("/tune")
def tune(
    bench: Bench,
    spec: JobSpec,
    context: Annotated[int, Query(ge=1, le=100_000_000)] = 8192,
    batch: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> Estimate:
    """The answer behind the sliders: bytes, loss, FLOPs, time, and every layer. Nothing is stored."""
    return estimate(bench, _said(spec), context, batch)


@router.post("/tune/redistribute")
def redistribute(bench: Bench, body: LockedBody) -> RanksBody:
    """The budget spread anew by predicted loss around locked layers. 422 without a profile of the recipe."""
    return RanksBody(layer_ranks=list(tuning.redistribute(bench, _said(body.spec), body.locked)))


@router.post("/tune/target")
def target(bench: Bench, body: TargetBody) -> KeepBody:
    """The budget that reaches the target. 422 when nothing does, or no profile can say."""
    return KeepBody(keep=tuning.keep_for(bench, _said(body.spec), body.target))


@router.get("/models/profile")
def profile(
    bench: Bench,
    model: Annotated[str, Query(min_length=1, description="a local folder, a Hub id, or demo")],
    revision: str | None = None,
) -> Profile:
    """The newest profile of the model: what pairs contribute, and what each recipe loses in each layer."""
    facts = bench.facts.read(model, revision, bench.settings)
    found = bench.profiles.newest(bench.settings.home, facts.name)
    if found is None:
        raise NotFoundError(
            f"there is no profile of '{facts.name}'",
            hint="POST /api/v1/jobs with kind profile makes one",
            field="model",
        )
    return found


def _said(spec: JobSpec) -> dict[str, Any]:
    """What the body said; a preset fills the rest."""
    return {"model": spec.model} | spec.model_dump(exclude_unset=True)
