# SPDX-License-Identifier: Apache-2.0
"""The state machine of a chat turn. Only this module writes `state`, with one conditional UPDATE per step.

The process that answers names itself (`host`) when it takes a turn; afterwards only that host can write it.
"""

import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.errors import StateError
from core.store.chat_tables import ChatTurnRow
from core.store.chat_views import ANSWERING, OPEN, ChatTurn, Sampling, TurnState
from core.store.clock import now

# as for jobs: no i, l, o, u, 0, 1
_ALPHABET = "23456789abcdefghjkmnpqrstvwxyz"
# a prompt nobody has taken after this time is given up: whoever waited has gone
GIVE_UP_SECONDS = 300.0
NOBODY = "no chat worker answered", "start 'mla-workbench serve', or a Celery worker of the queue chat"


def new_id() -> str:
    """An id that can be read aloud."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(10))


def ask(
    session: Session, conversation: str, models: Sequence[str], prompt: str, sampling: Sampling
) -> list[ChatTurn]:
    """Store one waiting turn per model, each with its own history; raises StateError while one answers."""
    earlier = read(session, conversation)
    if any(one.state in OPEN for one in earlier):
        raise StateError("this conversation is still being answered", hint="stop it, or wait for its end")
    if earlier and [one.model for one in _last(earlier)] != [*models]:
        raise StateError("this conversation is with other models", hint="start a new one")
    number, at = max((one.turn for one in earlier), default=0) + 1, now()
    for place, model in enumerate(models):
        row = ChatTurnRow(id=new_id(), session=conversation, turn=number, place=place, model=model)
        history = _history([one for one in earlier if one.place == place])
        row.messages = [*history, {"role": "user", "content": prompt}]
        row.sampling, row.state = sampling.model_dump(mode="json"), TurnState.WAITING
        row.created_at = row.updated_at = at
        session.add(row)
    try:
        session.flush()
    except IntegrityError as error:
        raise StateError("somebody else asked at the same moment", hint="look at the answer first") from error
    return _last(read(session, conversation))


def _history(earlier: Sequence[ChatTurn]) -> list[dict[str, str]]:
    """What one model was told and said. A prompt it never answered is left out: templates want pairs."""
    return [
        {"role": role, "content": content}
        for one in earlier
        if one.text
        for role, content in (("user", one.prompt), ("assistant", one.text))
    ]


def _last(turns: Sequence[ChatTurn]) -> list[ChatTurn]:
    number = max((one.turn for one in turns), default=0)
    return [one for one in turns if one.turn == number]


def read(session: Session, conversation: str) -> list[ChatTurn]:
    """Every turn of a conversation in order, the models of one turn side by side."""
    order = ChatTurnRow.turn, ChatTurnRow.place
    rows = session.scalars(select(ChatTurnRow).where(ChatTurnRow.session == conversation).order_by(*order))
    return [view(row) for row in rows]


def get(session: Session, turn_id: str) -> ChatTurn:
    """One model's part of a turn; raises StateError when there is none."""
    row = session.get(ChatTurnRow, turn_id, populate_existing=True)
    if row is None:
        raise StateError(f"there is no chat turn '{turn_id}'", hint="it may have been deleted")
    return view(row)


def waiting(session: Session) -> list[ChatTurn]:
    """Turns nobody has taken yet, oldest first."""
    order = ChatTurnRow.created_at, ChatTurnRow.session, ChatTurnRow.place
    rows = session.scalars(
        select(ChatTurnRow).where(ChatTurnRow.state == TurnState.WAITING).order_by(*order).limit(64)
    )
    return [view(row) for row in rows]


def take(session: Session, turn_id: str, host: str) -> bool:
    """waiting -> loading for exactly one host."""
    return _move(session, turn_id, {TurnState.WAITING}, TurnState.LOADING, host=host)


def start(session: Session, turn_id: str, host: str, values: Mapping[str, Any]) -> bool:
    """loading -> streaming: the prompt is being read."""
    return _move(session, turn_id, {TurnState.LOADING}, TurnState.STREAMING, _is_of(host), **values)


def write(session: Session, turn_id: str, host: str, values: Mapping[str, Any]) -> bool:
    """Text and numbers so far; False when the turn is not this host's any more."""
    streaming = {TurnState.STREAMING}
    return _move(session, turn_id, streaming, TurnState.STREAMING, _is_of(host), **values)


def finish(session: Session, turn_id: str, host: str, ending: str, values: Mapping[str, Any]) -> bool:
    """streaming -> done; `ending` says why it ended there."""
    streaming = {TurnState.STREAMING}
    return _move(session, turn_id, streaming, TurnState.DONE, _is_of(host), ending=ending, **values)


def stopped(session: Session, turn_id: str, host: str, values: Mapping[str, Any]) -> bool:
    """loading or streaming -> stopped: the host has heard the request."""
    return _move(session, turn_id, ANSWERING, TurnState.STOPPED, _is_of(host), **values)


def fail(session: Session, turn_id: str, host: str, error: str, hint: str) -> bool:
    """loading or streaming -> failed, with what a user needs to know."""
    return _move(session, turn_id, ANSWERING, TurnState.FAILED, _is_of(host), error=error, hint=hint)


def request_stop(session: Session, conversation: str) -> int:
    """Stop a conversation: at once what waits, within a token what is answered. Returns how many."""
    mine = ChatTurnRow.session == conversation
    waiting_ones = update(ChatTurnRow).where(mine, ChatTurnRow.state == TurnState.WAITING)
    running = update(ChatTurnRow).where(mine, ChatTurnRow.state.in_(ANSWERING))
    at = now()
    gone = _count(session.execute(waiting_ones.values(state=TurnState.STOPPED, updated_at=at)))
    return gone + _count(session.execute(running.values(stop_requested=True, updated_at=at)))


def to_stop(session: Session, host: str) -> set[str]:
    """Turns of this host that somebody wants to end."""
    wanted = select(ChatTurnRow.id).where(
        _is_of(host), ChatTurnRow.stop_requested, ChatTurnRow.state.in_(ANSWERING)
    )
    return set(session.scalars(wanted))


def abandon(session: Session, host: str, error: str, hint: str) -> int:
    """Fail everything a host left unfinished; returns how many turns."""
    left = update(ChatTurnRow).where(_is_of(host), ChatTurnRow.state.in_(ANSWERING))
    values = {"state": TurnState.FAILED, "error": error, "hint": hint, "updated_at": now()}
    return _count(session.execute(left.values(**values)))


def refuse_waiting(session: Session, error: str, hint: str) -> int:
    """Fail everything that waits: whoever should have taken it cannot even start."""
    left = update(ChatTurnRow).where(ChatTurnRow.state == TurnState.WAITING)
    values = {"state": TurnState.FAILED, "error": error, "hint": hint, "updated_at": now()}
    return _count(session.execute(left.values(**values)))


def abandon_all(session: Session, alive: str | None, error: str, hint: str) -> int:
    """Fail what is being answered by any host but the one that is there."""
    left = update(ChatTurnRow).where(ChatTurnRow.state.in_(ANSWERING))
    if alive is not None:
        left = left.where(ChatTurnRow.host != alive)
    values = {"state": TurnState.FAILED, "error": error, "hint": hint, "updated_at": now()}
    return _count(session.execute(left.values(**values)))


def give_up(session: Session, at: datetime) -> int:
    """Fail what has waited so long that nobody can be there to take it."""
    is_old = ChatTurnRow.created_at < at - timedelta(seconds=GIVE_UP_SECONDS)
    late = update(ChatTurnRow).where(ChatTurnRow.state == TurnState.WAITING, is_old)
    values = {"state": TurnState.FAILED, "error": NOBODY[0], "hint": NOBODY[1], "updated_at": at}
    return _count(session.execute(late.values(**values)))


def has_waiting(session: Session) -> bool:
    """Whether somebody waits to be answered."""
    waiting_ones = select(func.count()).select_from(ChatTurnRow).where(ChatTurnRow.state == TurnState.WAITING)
    return bool(session.scalar(waiting_ones))


def needs_care(session: Session, alive: str | None) -> bool:
    """Whether a turn is in the hands of a host that is not there, or waits while there is none.

    A read that is false nearly always: who looks every few seconds must not take the write lock for it.
    """
    is_open = ChatTurnRow.state.in_(OPEN if alive is None else ANSWERING)
    open_ones = select(func.count()).select_from(ChatTurnRow).where(is_open)
    if alive is not None:
        open_ones = open_ones.where(ChatTurnRow.host != alive)
    return bool(session.scalar(open_ones))


def forget(session: Session, conversation: str) -> None:
    """Delete a conversation; whoever still answers it finds its rows gone and ends."""
    session.execute(delete(ChatTurnRow).where(ChatTurnRow.session == conversation))


def view(row: ChatTurnRow) -> ChatTurn:
    """The row as a frozen value."""
    # the first token comes with the prompt's logits: it took none of the time spent on decoding
    rate = (row.tokens - 1) / row.decode_seconds if row.tokens > 1 and row.decode_seconds else None
    same = {name: getattr(row, name) for name in ChatTurn.model_fields if name != "tokens_per_second"}
    return ChatTurn.model_validate(same | {"tokens_per_second": rate})


def _is_of(host: str) -> ColumnElement[bool]:
    return ChatTurnRow.host == host


def _move(
    session: Session,
    turn_id: str,
    before: Collection[TurnState],
    after: TurnState,
    *conditions: ColumnElement[bool],
    **values: Any,
) -> bool:
    """One conditional UPDATE; True when it changed the row."""
    step = update(ChatTurnRow).where(ChatTurnRow.id == turn_id, ChatTurnRow.state.in_(before), *conditions)
    return _count(session.execute(step.values(state=after, updated_at=now(), **values))) == 1


def _count(result: Any) -> int:
    assert isinstance(result, CursorResult)
    return int(result.rowcount)
