# SPDX-License-Identifier: Apache-2.0
"""The lease of the process that answers: one for the installation, since it owns the memory budget."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import CursorResult, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.store.chat_tables import ChatHostRow
from core.store.chat_views import ChatHost, LoadedModel
from core.store.clock import now

_NAME = "chat"


def claim(session: Session, owner: str, lease_seconds: float, budget_bytes: int) -> bool:
    """Become the host if nobody is, or if the last one fell silent. `owner` must be new for every claim."""
    at = now()
    _make(session, at)
    is_free = or_(ChatHostRow.owner.is_(None), ChatHostRow.lease_until < at)
    step = update(ChatHostRow).where(ChatHostRow.name == _NAME, is_free)
    values: dict[str, Any] = {"owner": owner, "lease_until": at + timedelta(seconds=lease_seconds)}
    values |= {"budget_bytes": budget_bytes, "memory_bytes": 0, "models": [], "updated_at": at}
    return _is_one(session.execute(step.values(**values)))


def beat(session: Session, owner: str, lease_seconds: float, memory_bytes: int) -> bool:
    """Renew the lease; False when it is somebody else's."""
    at = now()
    until = at + timedelta(seconds=lease_seconds)
    return _write(session, owner, lease_until=until, memory_bytes=memory_bytes, updated_at=at)


def hold(session: Session, owner: str, models: Sequence[LoadedModel]) -> bool:
    """Which models are in memory now."""
    return _write(session, owner, models=[one.model_dump() for one in models])


def release(session: Session, owner: str) -> None:
    """Nobody answers any more."""
    _write(session, owner, owner=None, lease_until=None, memory_bytes=0, models=[])


def owner_of(session: Session) -> str | None:
    """Who holds the lease, if it has not run out."""
    row = _row(session)
    return row.owner if row is not None and row.lease_until and row.lease_until > now() else None


def view(session: Session) -> ChatHost | None:
    """The process that answers; None while there is none."""
    row = _row(session)
    if row is None or owner_of(session) is None:
        return None
    models = tuple(LoadedModel.model_validate(one) for one in row.models)
    return ChatHost(budget_bytes=row.budget_bytes, memory_bytes=row.memory_bytes, models=models)


def may_ring(session: Session, quiet_seconds: float) -> bool:
    """Whether nobody answers and nobody was rung for a while; if so, the bell counts as rung from here on.

    This bounds the messages that pile up while no worker is there.
    """
    at = now()
    _make(session, at - timedelta(days=1))
    is_free = or_(ChatHostRow.owner.is_(None), ChatHostRow.lease_until < at)
    is_quiet = ChatHostRow.updated_at < at - timedelta(seconds=quiet_seconds)
    step = update(ChatHostRow).where(ChatHostRow.name == _NAME, is_free, is_quiet)
    return _is_one(session.execute(step.values(updated_at=at)))


def _make(session: Session, at: datetime) -> None:
    """The one row, made by whoever comes first."""
    if _row(session) is not None:
        return
    try:
        with session.begin_nested():
            session.add(ChatHostRow(name=_NAME, budget_bytes=0, memory_bytes=0, models=[], updated_at=at))
    except IntegrityError:
        return  # somebody else was first, which is as good


def _row(session: Session) -> ChatHostRow | None:
    return session.scalar(
        select(ChatHostRow).where(ChatHostRow.name == _NAME).execution_options(populate_existing=True)
    )


def _write(session: Session, owner_now: str, /, **values: Any) -> bool:
    mine = update(ChatHostRow).where(ChatHostRow.name == _NAME, ChatHostRow.owner == owner_now)
    return _is_one(session.execute(mine.values(**values)))


def _is_one(result: Any) -> bool:
    assert isinstance(result, CursorResult)
    return result.rowcount == 1
