# SPDX-License-Identifier: Apache-2.0
"""Reading jobs: one, many, how many, and which models were used lately."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, func, or_, select
from sqlalchemy.orm import Session

from core.errors import StateError
from core.spec import JobSpec
from core.store.clock import now
from core.store.tables import JobRow, MetricRow
from core.store.views import ACTIVE, JobView, State


def get(session: Session, job_id: str) -> JobView:
    """The job; raises StateError when there is none."""
    row = session.get(JobRow, job_id, populate_existing=True)
    if row is None:
        raise StateError(f"there is no job '{job_id}'", hint="the list of jobs shows every id")
    return _views(session, [row])[0]


def find(
    session: Session, states: Collection[State] | None, text: str, limit: int, offset: int
) -> list[JobView]:
    """Jobs, newest first, in one of `states` and with `text` in their model, preset or id."""
    newest = JobRow.created_at.desc(), JobRow.id.desc()
    rows = session.scalars(
        _filtered(select(JobRow), states, text).order_by(*newest).limit(limit).offset(offset)
    )
    return _views(session, rows.all())


def count(session: Session, states: Collection[State] | None, text: str) -> int:
    """How many jobs `find` would give without a limit."""
    return session.scalar(_filtered(select(func.count()).select_from(JobRow), states, text)) or 0


def recent_models(session: Session, limit: int) -> list[str]:
    """Different models, the most recently submitted first."""
    rows = session.scalars(
        select(JobRow.model).group_by(JobRow.model).order_by(func.max(JobRow.created_at).desc()).limit(limit)
    )
    return list(rows)


def _filtered(query: Select[Any], states: Collection[State] | None, text: str) -> Select[Any]:
    if states is not None:
        query = query.where(JobRow.state.in_(states))
    if text:
        word = text.lower()
        columns = (JobRow.model, JobRow.preset, JobRow.id)
        query = query.where(or_(*(func.lower(column).contains(word, autoescape=True) for column in columns)))
    return query


def _views(session: Session, rows: Sequence[JobRow]) -> list[JobView]:
    metrics: dict[str, dict[str, float]] = defaultdict(dict)
    ids = [row.id for row in rows]
    for metric in session.scalars(
        select(MetricRow).where(MetricRow.job_id.in_(ids)).order_by(MetricRow.position)
    ):
        metrics[metric.job_id][metric.name] = metric.value
    return [_view(row, metrics[row.id], _queue_position(session, row)) for row in rows]


def _view(row: JobRow, metrics: dict[str, float], queue_position: int | None) -> JobView:
    return JobView(
        id=row.id,
        state=State(row.state),
        spec=JobSpec.model_validate(row.spec),
        owner=row.owner,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        attempt=row.attempt,
        stage=row.stage,
        done=row.done,
        total=row.total,
        message=row.message,
        eta_seconds=_eta(row, now()),
        queue_position=queue_position,
        reason=row.reason,
        hint=row.hint,
        log_tail=row.log_tail,
        peak_memory_bytes=row.peak_memory_bytes,
        metrics=metrics,
    )


def _queue_position(session: Session, row: JobRow) -> int | None:
    if row.state != State.QUEUED:
        return None
    is_before = or_(
        JobRow.queued_at < row.queued_at, and_(JobRow.queued_at == row.queued_at, JobRow.id <= row.id)
    )
    return session.scalar(
        select(func.count()).select_from(JobRow).where(JobRow.state == State.QUEUED, is_before)
    )


def _eta(row: JobRow, at: datetime) -> float | None:
    """Remaining steps times the mean length of this stage's steps, less the time since the last one ended.

    `timed_steps` leaves out those that an earlier attempt had finished.
    """
    if row.state not in ACTIVE or row.stage_started_at is None or row.progress_at is None:
        return None
    if row.timed_steps < 1 or row.total < row.done:
        return None
    mean = (row.progress_at - row.stage_started_at).total_seconds() / row.timed_steps
    return max(0.0, (row.total - row.done) * mean - (at - row.progress_at).total_seconds())
