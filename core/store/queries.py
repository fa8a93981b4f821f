# SPDX-License-Identifier: Apache-2.0
"""Reading jobs: one, many, how many, and which models were used lately."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from core.errors import StateError
from core.fixes import Fix
from core.spec import JobSpec
from core.store.clock import now
from core.store.tables import JobRow, MetricRow
from core.store.views import ACTIVE, FINAL, JobView, State


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


def of_sweep(session: Session, sweep_id: str) -> list[JobView]:
    """The jobs of a sweep, in the order they were submitted; none when there is no such sweep."""
    first = JobRow.created_at, JobRow.id
    return _views(
        session, session.scalars(select(JobRow).where(JobRow.sweep_id == sweep_id).order_by(*first)).all()
    )


def waiting(session: Session) -> list[JobView]:
    """Queued jobs in the order they are expected to start."""
    rows = session.scalars(
        select(JobRow).where(JobRow.state == State.QUEUED).order_by(JobRow.queued_at, JobRow.id)
    )
    return _views(session, rows.all())


def is_free_to_start() -> ColumnElement[bool]:
    """The job waits for no other one, or that has ended or is gone."""
    other = aliased(JobRow)
    is_before = exists().where(other.id == JobRow.after_id, other.state.not_in(FINAL))
    return or_(JobRow.after_id.is_(None), ~is_before)


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
    position = _queue_positions(session) if any(row.state == State.QUEUED for row in rows) else {}
    return [_view(row, metrics[row.id], position.get(row.id)) for row in rows]


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
        sweep_id=row.sweep_id,
        parent_id=row.parent_id,
        after_id=row.after_id,
        fixes=tuple(Fix.model_validate(fix) for fix in row.fixes or ()),
    )


def _queue_positions(session: Session) -> dict[str, int]:
    """Of every queued job; 1 is next."""
    ids = session.scalars(
        select(JobRow.id).where(JobRow.state == State.QUEUED).order_by(JobRow.queued_at, JobRow.id)
    )
    return {job_id: position for position, job_id in enumerate(ids, start=1)}


def _eta(row: JobRow, at: datetime) -> float | None:
    """Remaining steps times the mean length of this stage's steps, less the time since the last one ended.

    `timed_steps` leaves out those that an earlier attempt had finished; below 1 none of this one has ended.
    """
    if row.state not in ACTIVE or row.stage_started_at is None or row.progress_at is None:
        return None
    if row.timed_steps < 1 or row.total < row.done:
        return None
    mean = (row.progress_at - row.stage_started_at).total_seconds() / row.timed_steps
    return max(0.0, (row.total - row.done) * mean - (at - row.progress_at).total_seconds())
