# SPDX-License-Identifier: Apache-2.0
"""The state machine of a job. Only this module writes `state`, with one conditional UPDATE per step.

Each step says from which states it may start; the row count tells whether it won. Two processes may try the
same step at the same moment, on different machines: exactly one succeeds.
"""

import secrets
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, delete, select, update
from sqlalchemy.orm import Session

from core.errors import StateError
from core.events import Log
from core.fixes import Fix
from core.spec import JobSpec
from core.store import artefacts as artefact_rows
from core.store import events, queries
from core.store.clock import now
from core.store.tables import JobRow
from core.store.views import ACTIVE, DELETABLE, RESUMABLE, Lineage, State, StoredArtefact

# no i, l, o, u, 0, 1: an id can be read aloud, and spells nothing
_ALPHABET = "23456789abcdefghjkmnpqrstvwxyz"
# a job that takes its worker down with it each time must not do so for ever
MAX_LOSSES = 3
_BLANK: Mapping[str, Any] = {
    "stage": "",
    "done": 0,
    "total": 0,
    "message": "",
    "reason": "",
    "hint": "",
    "fixes": None,
    "told_at": None,
}
_NO_LEASE: dict[str, Any] = {"lease_owner": None, "lease_until": None}


_LOST_HINT = "it may need more memory than the machine has; Resume continues after the last finished layer"


def new_id() -> str:
    """An id nobody has: of a job, or of a sweep."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(10))


def submit(session: Session, spec: JobSpec, owner: str, lineage: Lineage) -> str:
    """Store a queued job and return its id."""
    job_id, at = new_id(), now()
    row = JobRow(id=job_id, state=State.QUEUED, kind=spec.kind, model=spec.model, preset=spec.preset or "")
    row.spec, row.owner = spec.model_dump(mode="json"), owner
    row.created_at = row.queued_at = at
    # whoever submits also rings, so the reconciler need not until a while has passed; a job that waits for
    # another one is rung when that has ended
    row.rung_at = None if lineage.after_id else at
    row.sweep_id, row.parent_id, row.after_id = lineage.sweep_id, lineage.parent_id, lineage.after_id
    session.add(row)
    session.flush()
    return job_id


def claim(session: Session, job_id: str, owner: str, lease_seconds: float) -> bool:
    """queued -> running for exactly one caller, unless the job waits for another one.

    `owner` must be new for every claim: it is the fence.
    """
    at = now()
    unknown = ("stage_started_at", "progress_at", "peak_memory_bytes")
    fresh = dict(_BLANK) | dict.fromkeys(unknown) | {"timed_steps": 0}
    won = _move(
        session,
        job_id,
        {State.QUEUED},
        State.RUNNING,
        queries.is_free_to_start(),
        attempt=JobRow.attempt + 1,
        started_at=at,
        lease_owner=owner,
        lease_until=at + timedelta(seconds=lease_seconds),
        **fresh,
    )
    if won:
        attempt = session.scalar(select(JobRow.attempt).where(JobRow.id == job_id))
        _log(session, job_id, f"attempt {attempt} starts")
    return won


def request_cancel(session: Session, job_id: str) -> None:
    """A waiting job is cancelled at once, a running one as soon as its worker looks."""
    at = now()
    waiting = {State.QUEUED, State.INTERRUPTED, State.PAUSED}
    if _move(session, job_id, waiting, State.CANCELLED, finished_at=at, reason="", hint=""):
        return _log(session, job_id, "cancelled while no worker had it")
    if _move(session, job_id, {State.RUNNING, State.VERIFYING, State.PAUSING}, State.CANCELLING):
        return _log(session, job_id, "cancel requested")
    job = queries.get(session, job_id)
    raise StateError(f"the job is {job.state} and cannot be cancelled", hint=_CANCEL_HINTS[job.state])


def request_pause(session: Session, job_id: str) -> None:
    """A waiting job is paused at once, a running one at its next step."""
    if _move(session, job_id, {State.QUEUED, State.INTERRUPTED}, State.PAUSED, reason="", hint=""):
        return _log(session, job_id, "paused while no worker had it")
    if _move(session, job_id, {State.RUNNING, State.VERIFYING}, State.PAUSING):
        return _log(session, job_id, "pause requested")
    state = queries.get(session, job_id).state
    raise StateError(f"the job is {state} and cannot be paused", hint="only a waiting or running job can be")


def resume(session: Session, job_id: str) -> None:
    """cancelled, failed, interrupted or paused -> queued again, with the same spec and work folder."""
    if _move(session, job_id, RESUMABLE, State.QUEUED, losses=0, **_requeued(rung_at=now())):
        return _log(session, job_id, "resumed: finished layers are kept")
    state = queries.get(session, job_id).state
    raise StateError(
        f"the job is {state} and cannot be resumed",
        hint="only a cancelled, failed, interrupted or paused job can be",
    )


def remove(session: Session, job_id: str) -> None:
    """Forget a job no worker will touch, with its events, metrics and artefacts."""
    gone = session.execute(delete(JobRow).where(JobRow.id == job_id, JobRow.state.in_(DELETABLE)))
    if not _is_one(gone):
        state = queries.get(session, job_id).state
        raise StateError(f"the job is {state} and cannot be deleted", hint="cancel it first")


def enter_verifying(session: Session, job_id: str, owner: str) -> bool:
    """running -> verifying; False when the job is not running here, as when a cancel came first."""
    return _move(session, job_id, {State.RUNNING}, State.VERIFYING, _is_mine(owner))


def finish(
    session: Session, job_id: str, owner: str, files: Iterable[StoredArtefact], peak_memory: int | None
) -> bool:
    """verifying -> done. Nothing else leads to done, so nothing is done before it was verified."""
    values = {"finished_at": now(), "message": "", "peak_memory_bytes": peak_memory} | _NO_LEASE
    won = _move(session, job_id, {State.VERIFYING}, State.DONE, _is_mine(owner), **values)
    if won:
        artefact_rows.replace(session, job_id, files)
        _log(session, job_id, "done")
    return won


def cancelled(session: Session, job_id: str, owner: str) -> bool:
    """cancelling -> cancelled: the child has stopped."""
    values = {"finished_at": now()} | _NO_LEASE
    won = _move(session, job_id, {State.CANCELLING}, State.CANCELLED, _is_mine(owner), **values)
    if won:
        _log(session, job_id, "cancelled: finished layers are kept, Resume continues after them")
    return won


def paused(session: Session, job_id: str, owner: str) -> bool:
    """pausing -> paused: the child has stopped."""
    won = _move(session, job_id, {State.PAUSING}, State.PAUSED, _is_mine(owner), **_NO_LEASE)
    if won:
        _log(session, job_id, "paused: finished layers are kept, Resume continues after them")
    return won


def fail(
    session: Session,
    job_id: str,
    owner: str,
    *,
    reason: str,
    hint: str,
    log_tail: str,
    peak_memory: int | None,
    fixes: Iterable[Fix] = (),
) -> bool:
    """running, verifying, cancelling or pausing -> failed, with what a user needs to know."""
    values: dict[str, Any] = {"reason": reason, "hint": hint, "log_tail": log_tail}
    values["fixes"] = [fix.model_dump(mode="json") for fix in fixes]
    values |= {"peak_memory_bytes": peak_memory, "finished_at": now()} | _NO_LEASE
    won = _move(session, job_id, ACTIVE, State.FAILED, _is_mine(owner), **values)
    if won:
        _log(session, job_id, reason, level="error")
    return won


def interrupt(session: Session, job_id: str, owner: str, reason: str) -> bool:
    """running or verifying -> interrupted: the worker gives the job back. It is queued again soon."""
    stopped = {State.RUNNING, State.VERIFYING}
    won = _move(session, job_id, stopped, State.INTERRUPTED, _is_mine(owner), reason=reason, **_NO_LEASE)
    if won:
        _log(session, job_id, reason, level="warning")
    return won


def release_expired(session: Session, at: datetime) -> list[str]:
    """Take every job whose lease ran out from its silent worker; returns their ids."""
    is_late = JobRow.lease_until < at
    late = session.execute(select(JobRow.id, JobRow.state).where(JobRow.state.in_(ACTIVE), is_late)).all()
    released = []
    for job_id, state in late:
        if state == State.CANCELLING:
            won = _move(session, job_id, {state}, State.CANCELLED, is_late, finished_at=at, **_NO_LEASE)
        elif state == State.PAUSING:
            won = _move(session, job_id, {state}, State.PAUSED, is_late, **_NO_LEASE)
        else:
            lost = {"losses": JobRow.losses + 1, "reason": "its worker fell silent"} | _NO_LEASE
            won = _move(session, job_id, {state}, State.INTERRUPTED, is_late, **lost)
        if won:
            _log(session, job_id, "its worker fell silent", level="warning")
            released.append(job_id)
    return released


def requeue_interrupted(session: Session, at: datetime) -> None:
    """interrupted -> queued, or failed for a job whose worker was lost too often since it was submitted."""
    for job_id in session.scalars(select(JobRow.id).where(JobRow.state == State.INTERRUPTED)).all():
        again = _requeued(rung_at=None)
        if _move(session, job_id, {State.INTERRUPTED}, State.QUEUED, JobRow.losses < MAX_LOSSES, **again):
            _log(session, job_id, "queued again: finished layers are kept")
            continue
        reason = f"its worker was lost {MAX_LOSSES} times in a row"
        final = {"reason": reason, "hint": _LOST_HINT, "finished_at": at}
        if _move(session, job_id, {State.INTERRUPTED}, State.FAILED, **final):
            _log(session, job_id, reason, level="error")


_CANCEL_HINTS = dict.fromkeys(State, "try again") | {
    State.CANCELLING: "it stops at the end of the current layer",
    State.CANCELLED: "Resume starts it again",
    State.DONE: "its result can be deleted",
    State.FAILED: "it has stopped already",
}


def _requeued(*, rung_at: datetime | None) -> dict[str, Any]:
    """What a job forgets when it waits again."""
    return dict(_BLANK) | {"queued_at": now(), "rung_at": rung_at, "log_tail": "", "finished_at": None}


def _is_mine(owner: str) -> ColumnElement[bool]:
    return JobRow.lease_owner == owner


def _move(
    session: Session,
    job_id: str,
    before: Collection[State],
    after: State,
    *conditions: ColumnElement[bool],
    **values: Any,
) -> bool:
    """One conditional UPDATE; True when it changed the row."""
    step = update(JobRow).where(JobRow.id == job_id, JobRow.state.in_(before), *conditions)
    return _is_one(session.execute(step.values(state=after, **values)))


def _is_one(result: Any) -> bool:
    assert isinstance(result, CursorResult)
    return result.rowcount == 1


def _log(session: Session, job_id: str, message: str, level: Any = "info") -> None:
    events.append(session, job_id, Log(level=level, message=message))
