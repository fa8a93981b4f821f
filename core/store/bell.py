# SPDX-License-Identifier: Apache-2.0
"""The bell wakes a worker; the record decides. Lost, late and doubled rings change nothing."""

from datetime import timedelta
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Select, func, select, update
from sqlalchemy.orm import Session

from core.store import presence, queries
from core.store.clock import now
from core.store.tables import JobRow
from core.store.views import ACTIVE, State

# the name and the only argument (a job id) of the message, for whoever sends and whoever answers it
RUN_TASK = "workers.run"
RUN_QUEUE = "jobs"
# a free worker answers in milliseconds; a job that waits this long beside one was not heard
QUIET_SECONDS = 10.0


class Bell(Protocol):
    """Tells the workers that a job waits; False when the message could not be sent."""

    def ring(self, job_id: str) -> bool: ...


def unheard(session: Session, quiet_seconds: float) -> list[str]:
    """Queued jobs nobody was told about, and those that wait although a worker is free; marked as rung.

    Ringing only for free places bounds the messages: a queue of hours is not rung again and again.
    """
    told = [*session.scalars(_waiting(JobRow.rung_at.is_(None)))]
    busy = session.scalar(select(func.count()).select_from(JobRow).where(JobRow.state.in_(ACTIVE))) or 0
    free = presence.slots(session) - busy
    if free > 0:
        is_quiet = JobRow.rung_at < now() - timedelta(seconds=quiet_seconds)
        told += session.scalars(_waiting(is_quiet).limit(free))
    if told:
        session.execute(update(JobRow).where(JobRow.id.in_(told)).values(rung_at=now()))
    return told


def _waiting(condition: ColumnElement[bool]) -> Select[Any]:
    is_ready = JobRow.state == State.QUEUED, queries.is_free_to_start()
    return select(JobRow.id).where(*is_ready, condition).order_by(JobRow.queued_at)
