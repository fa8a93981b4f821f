# SPDX-License-Identifier: Apache-2.0
"""The tables of the chat: what each model was asked and answers, and the one process that answers."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from core.store.chat_views import TurnState
from core.store.tables import Base, Moment, PlainText


class ChatTurnRow(Base):
    """One model's part of one turn. Models of a turn share session and number and differ in `place`.

    `state`, `host` and the numbers are written by core/store/chat.py alone; `host` is the fence.
    """

    __tablename__ = "chat_turns"
    __table_args__ = (
        Index("ix_chat_turns_session_turn_place", "session", "turn", "place", unique=True),
        Index("ix_chat_turns_state_created_at", "state", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    session: Mapped[str] = mapped_column(String(16))
    turn: Mapped[int] = mapped_column()
    place: Mapped[int] = mapped_column()
    model: Mapped[str] = mapped_column(PlainText)
    messages: Mapped[list[dict[str, str]]] = mapped_column(JSON)
    sampling: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[TurnState] = mapped_column(String(16))
    stop_requested: Mapped[bool] = mapped_column(default=False)
    host: Mapped[str | None] = mapped_column(String(255))
    text: Mapped[str] = mapped_column(PlainText, default="")
    prompt_tokens: Mapped[int] = mapped_column(default=0)
    tokens: Mapped[int] = mapped_column(default=0)
    cached_tokens: Mapped[int] = mapped_column(default=0)
    prompt_seconds: Mapped[float] = mapped_column(default=0.0)
    decode_seconds: Mapped[float] = mapped_column(default=0.0)
    kv_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    kv_bytes_per_token: Mapped[int] = mapped_column(BigInteger, default=0)
    kv_bytes_per_token_base: Mapped[int] = mapped_column(BigInteger, default=0)
    ending: Mapped[str] = mapped_column(String(16), default="")
    error: Mapped[str] = mapped_column(PlainText, default="")
    hint: Mapped[str] = mapped_column(PlainText, default="")
    created_at: Mapped[datetime] = mapped_column(Moment)
    updated_at: Mapped[datetime] = mapped_column(Moment)


class ChatHostRow(Base):
    """The process that answers, one for the installation: whoever holds the lease owns the memory budget."""

    __tablename__ = "chat_hosts"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str | None] = mapped_column(String(255))
    lease_until: Mapped[datetime | None] = mapped_column(Moment)
    budget_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    memory_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    models: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    updated_at: Mapped[datetime] = mapped_column(Moment)
