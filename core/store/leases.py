# SPDX-License-Identifier: Apache-2.0
"""What the holder of a lease may do besides changing the state: renew it and report progress."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import CursorResult, select, update
from sqlalchemy.orm import Session

from core.events import Event, Progress, StageStarted
from core.store import events
from core.store.clock import now
from core.store.tables import JobRow
from core.store.views import ACTIVE, State


@dataclass(frozen=True)
class Lease:
    """How a job stands for the one who works on it."""

    still_mine: bool
    stop_requested: bool


def look(session: Session, job_id: str, owner: str) -> Lease:
    """Read the lease without renewing it."""
    row = session.execute(select(JobRow.lease_owner, JobRow.state).where(JobRow.id == job_id)).one_or_none()
    is_mine = row is not None and row.lease_owner == owner and row.state in ACTIVE
    is_asked = row is not None and row.state in (State.CANCELLING, State.PAUSING)
    return Lease(is_mine, is_mine and is_asked)


def heartbeat(
    session: Session, job_id: str, owner: str, lease_seconds: float, peak_memory: int | None
) -> Lease:
    """Renew the lease if it is still the owner's."""
    until = now() + timedelta(seconds=lease_seconds)
    if not _write(session, job_id, owner, lease_until=until, peak_memory_bytes=peak_memory):
        return Lease(still_mine=False, stop_requested=False)
    return look(session, job_id, owner)


def record(session: Session, job_id: str, owner: str, event: Event) -> bool:
    """Store an event of a job that is still the owner's; False when the lease is someone else's."""
    if not _write(session, job_id, owner, **_position(event)):
        return False
    events.append(session, job_id, event)
    return True


def progress(session: Session, job_id: str, owner: str, event: Progress) -> bool:
    """Keep the job's own counters fresh without storing an event."""
    return _write(session, job_id, owner, **_position(event))


def _position(event: Event) -> dict[str, Any]:
    """What an event says about where the job is."""
    if isinstance(event, StageStarted):
        start: dict[str, Any] = {"stage": event.stage, "done": 0, "total": event.total, "message": ""}
        # what an earlier attempt finished says nothing of how long the rest takes: it is counted away
        return start | {"stage_started_at": now(), "timed_steps": -event.finished, "progress_at": None}
    if isinstance(event, Progress):
        counters = {"stage": event.stage, "done": event.done, "total": event.total, "message": event.message}
        timed = JobRow.timed_steps + event.done - JobRow.done
        return counters | {"progress_at": now(), "timed_steps": timed}
    return {}


def _write(session: Session, job_id: str, owner: str, **values: Any) -> bool:
    """Update the row if the lease is the owner's. Setting the owner again locks the row at least."""
    mine = update(JobRow).where(JobRow.id == job_id, JobRow.lease_owner == owner, JobRow.state.in_(ACTIVE))
    result = session.execute(mine.values(lease_owner=owner, **values))
    assert isinstance(result, CursorResult)
    return result.rowcount == 1
