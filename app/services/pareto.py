# SPDX-License-Identifier: Apache-2.0
"""What was reached: every finished conversion and healing of a model, cache against loss, both measured."""

from collections.abc import Sequence

from pydantic import Field

from app.services.figure_table import FigureTable
from app.services.known_models import jobs_of
from app.services.workbench import Workbench
from core.spec import Frozen
from core.store.views import JobView, State


class ParetoPoint(Frozen):
    """One finished job."""

    job: str
    preset: str = Field(description="empty for a recipe of one's own")
    keep: float
    bytes_per_token: float
    perplexity_ratio: float
    kl_to_base: float | None
    text: str = Field(description="what quality was measured on")
    healed_tokens: int | None = Field(None, description="tokens it learned from; null for a plain conversion")
    is_best: bool = Field(description="no other job has a smaller cache and a smaller loss")


def pareto_points(workbench: Workbench, model: str) -> list[ParetoPoint]:
    """Points of every conversion that measured both, the smallest cache first."""
    found = [job for job in jobs_of(workbench, model) if _is_measured(job)]
    places = [_place(job) for job in found]
    points = [_point(job, not _is_beaten(place, places)) for job, place in zip(found, places, strict=True)]
    return sorted(points, key=lambda point: (point.bytes_per_token, point.perplexity_ratio))


def pareto_table(points: Sequence[ParetoPoint]) -> FigureTable:
    """One row per job."""
    columns = tuple(ParetoPoint.model_fields)
    rows = tuple(tuple(getattr(point, column) for column in columns) for point in points)
    return FigureTable(name="pareto", columns=columns, rows=rows)


def _is_measured(job: JobView) -> bool:
    return job.state is State.DONE and {"kv_bytes_per_token_measured", "perplexity_ratio"} <= set(job.metrics)


def _place(job: JobView) -> tuple[float, float]:
    return job.metrics["kv_bytes_per_token_measured"], job.metrics["perplexity_ratio"]


def _is_beaten(place: tuple[float, float], places: Sequence[tuple[float, float]]) -> bool:
    """Another one is as good in both and better in one."""
    return any(one != place and one[0] <= place[0] and one[1] <= place[1] for one in places)


def _point(job: JobView, is_best: bool) -> ParetoPoint:
    size, ratio = _place(job)
    before = job.metrics.get("kv_bytes_per_token_before")
    return ParetoPoint(
        job=job.id,
        preset=job.spec.preset or "",
        keep=size / before if before else job.spec.keep or 0.0,
        bytes_per_token=size,
        perplexity_ratio=ratio,
        kl_to_base=job.metrics.get("kl_to_base"),
        text=job.spec.evaluation.text if job.spec.evaluation else "",
        healed_tokens=job.spec.heal.tokens if job.spec.heal else None,
        is_best=is_best,
    )
