# SPDX-License-Identifier: Apache-2.0
"""When a waiting job is expected to start and to end, from the record alone."""

import heapq
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import Field

from app.services.healing_time import seconds_of
from app.services.workbench import Workbench
from core.errors import WorkbenchError
from core.spec import Frozen
from core.store.views import ACTIVE, JobView


class Expected(Frozen):
    """Seconds from now; null as soon as something ahead takes nobody knows how long."""

    job_id: str
    position: int | None = Field(description="1 is next; null for a job that runs")
    starts_in: float | None
    ends_in: float | None


def expected(workbench: Workbench) -> dict[str, Expected]:
    """Every running and waiting job by id, looked at once in a few seconds however many pages are open."""
    return workbench.recent.get("queue", lambda: _look(workbench))


def _look(workbench: Workbench) -> dict[str, Expected]:
    running = workbench.store.list(states=ACTIVE, limit=500)
    waiting = workbench.store.waiting()
    takes = {job.id: _seconds(workbench, job) for job in (*running, *waiting)}
    return schedule(running, waiting, takes, workbench.store.slots())


def schedule(
    running: Sequence[JobView], waiting: Sequence[JobView], takes: dict[str, float | None], slots: int
) -> dict[str, Expected]:
    """Each waiting job starts at the first free place, and not before the one it waits for has ended."""
    at = datetime.now(UTC)
    found: dict[str, Expected] = {}
    for job in running:
        found[job.id] = Expected(job_id=job.id, position=None, starts_in=0, ends_in=_left(job, takes, at))
    # a place whose end is unknown counts as free after everything: what follows it is unknown too
    ends = [_known(one.ends_in) for one in found.values()]
    places = ends + [0.0] * max(0, max(slots, 1) - len(ends))
    heapq.heapify(places)
    for job in waiting:
        free = heapq.heappop(places)
        leader = found.get(job.after_id or "")
        starts = max(free, _known(leader.ends_in)) if leader else free
        ends_at = starts + _known(takes[job.id])
        heapq.heappush(places, ends_at)
        found[job.id] = Expected(
            job_id=job.id, position=job.queue_position, starts_in=_said(starts), ends_in=_said(ends_at)
        )
    return found


def _left(job: JobView, takes: dict[str, float | None], at: datetime) -> float | None:
    """Of what was foreseen, what is not over; at least what is left of the stage it is in."""
    foreseen = takes[job.id]
    if foreseen is None or job.started_at is None:
        return None
    elapsed = (at - job.started_at).total_seconds()
    return max(0.0, foreseen - elapsed, job.eta_seconds or 0.0)


def _seconds(workbench: Workbench, job: JobView) -> float | None:
    try:
        facts = workbench.facts.read(job.spec.model, job.spec.revision, workbench.settings)
    except WorkbenchError:
        return None
    return seconds_of(workbench, job.spec, facts)


def _known(seconds: float | None) -> float:
    return float("inf") if seconds is None else seconds


def _said(seconds: float) -> float | None:
    return None if seconds == float("inf") else seconds
