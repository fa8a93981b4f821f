# SPDX-License-Identifier: Apache-2.0
"""A job's events: appended by whoever holds its row, read by cursor.

The writer has always updated the job's row first in the same transaction. That row lock makes the ids of one
job grow in commit order, so a reader that asks for "after id n" misses nothing on PostgreSQL either.
"""

import json
import math

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from core.events import EVENT, Event, Figure, Log, Metric
from core.store.clock import now
from core.store.tables import EventRow, MetricRow
from core.store.views import StoredEvent, StoredMetric


def append(session: Session, job_id: str, event: Event) -> None:
    """Store one event; a metric also becomes the current value of its name."""
    if isinstance(event, Metric) and not math.isfinite(event.value):
        # neither JSON nor SQLite can hold it, and nobody can compare it: say so instead of storing it
        event = Log(level="warning", message=f"{event.name} is {event.value}, which is not a number")
    # to JSON and back, because that turns a NaN inside a figure into null
    payload = json.loads(EVENT.dump_json(event))
    row = EventRow(job_id=job_id, at=now(), kind=event.kind, event=payload)
    session.add(row)
    if isinstance(event, Metric):
        _set_metric(session, job_id, event)
    if isinstance(event, Figure):
        _forget_earlier(session, row, event.name)


def after(session: Session, job_id: str, cursor: int, limit: int) -> list[StoredEvent]:
    """Events with an id above `cursor`, oldest first."""
    rows = session.scalars(
        select(EventRow)
        .where(EventRow.job_id == job_id, EventRow.id > cursor)
        .order_by(EventRow.id)
        .limit(limit)
    )
    return [StoredEvent(id=row.id, at=row.at, event=EVENT.validate_python(row.event)) for row in rows]


def figures(session: Session, job_id: str) -> dict[str, dict[str, object]]:
    """The data of every figure by name; a later one replaces an earlier one of the same name."""
    rows = session.scalars(
        select(EventRow.event)
        .where(EventRow.job_id == job_id, EventRow.kind == "figure")
        .order_by(EventRow.id)
    )
    found = (Figure.model_validate(row) for row in rows)
    return {figure.name: figure.data for figure in found}


def metrics(session: Session, job_id: str) -> list[StoredMetric]:
    """The numbers of a job in the order they were first reported."""
    rows = session.scalars(
        select(MetricRow).where(MetricRow.job_id == job_id).order_by(MetricRow.position, MetricRow.name)
    )
    return [
        StoredMetric.model_validate(
            {"name": row.name, "value": row.value, "unit": row.unit, "source": row.source}
        )
        for row in rows
    ]


def _forget_earlier(session: Session, row: EventRow, name: str) -> None:
    """A curve that grows is sent again and again, whole each time: the last one is all of it."""
    session.flush()
    session.execute(
        delete(EventRow).where(
            EventRow.job_id == row.job_id,
            EventRow.kind == row.kind,
            EventRow.id < row.id,
            EventRow.event["name"].as_string() == name,
        )
    )


def _set_metric(session: Session, job_id: str, metric: Metric) -> None:
    row = session.get(MetricRow, (job_id, metric.name))
    if row is None:
        count = session.scalar(select(func.count()).where(MetricRow.job_id == job_id))
        row = MetricRow(job_id=job_id, name=metric.name, position=count)
        session.add(row)
    row.value, row.unit, row.source = metric.value, metric.unit, metric.source
