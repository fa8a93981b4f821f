# SPDX-License-Identifier: Apache-2.0
"""Which workers are there. Nothing depends on it but the page and the reconciler: the lease decides."""

from datetime import datetime, timedelta

from pydantic import Field
from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from core.spec import Frozen
from core.store.clock import now
from core.store.tables import WorkerRow

# a worker says it is there every few seconds; a missed beat or two is not yet an absence
SEEN_SECONDS = 20.0


class WorkerView(Frozen):
    """One worker that was seen a moment ago."""

    name: str
    device: str = Field(description="what it computes on")
    seen_at: datetime
    job_id: str | None = Field(description="the job it works on")


def seen(session: Session, name: str, device: str, slots: int) -> None:
    """The worker is there and has room for `slots` jobs at once."""
    row = session.get(WorkerRow, name)
    if row is None:
        row = WorkerRow(name=name)
        session.add(row)
    row.device, row.slots, row.seen_at = device, slots, now()


def works_on(session: Session, name: str, job_id: str | None) -> None:
    """Remember what the worker does; also a sign of life when the broker is away."""
    session.execute(update(WorkerRow).where(WorkerRow.name == name).values(job_id=job_id, seen_at=now()))


def ask_to_stop(session: Session, name: str) -> None:
    """Tell the worker's jobs to leave: it is being shut down."""
    session.execute(update(WorkerRow).where(WorkerRow.name == name).values(is_stopping=True))


def is_stopping(session: Session, name: str) -> bool:
    """Whether the worker was asked to stop."""
    return bool(session.scalar(select(WorkerRow.is_stopping).where(WorkerRow.name == name)))


def gone(session: Session, name: str) -> None:
    """Forget the worker, and those of earlier days whose end nobody saw."""
    session.execute(
        delete(WorkerRow).where((WorkerRow.name == name) | (WorkerRow.seen_at < now() - timedelta(days=1)))
    )


def views(session: Session) -> list[WorkerView]:
    """The workers seen recently, by name."""
    rows = session.scalars(select(WorkerRow).where(_is_recent()).order_by(WorkerRow.name))
    return [
        WorkerView(name=row.name, device=row.device, seen_at=row.seen_at, job_id=row.job_id) for row in rows
    ]


def slots(session: Session) -> int:
    """How many jobs the workers that are there can run at once."""
    total = select(func.coalesce(func.sum(WorkerRow.slots), 0)).where(_is_recent(), ~WorkerRow.is_stopping)
    return int(session.scalar(total) or 0)


def _is_recent() -> ColumnElement[bool]:
    return WorkerRow.seen_at > now() - timedelta(seconds=SEEN_SECONDS)
