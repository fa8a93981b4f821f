# SPDX-License-Identifier: Apache-2.0
"""What the rest of the program sees of the chat: frozen values, no database session attached."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from core.spec import Frozen


class TurnState(StrEnum):
    """waiting -> loading -> streaming -> done; waiting, loading or streaming -> stopped or failed."""

    WAITING = "waiting"
    LOADING = "loading"
    STREAMING = "streaming"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


ANSWERING = frozenset({TurnState.LOADING, TurnState.STREAMING})
OPEN = ANSWERING | {TurnState.WAITING}


class Message(Frozen):
    """One message of a conversation, as chat templates take it."""

    role: str = Field(description="system, user or assistant", pattern="^(system|user|assistant)$")
    content: str


class Sampling(Frozen):
    """How the next token is chosen. The same values and seed give the same text from the same model."""

    temperature: float = Field(0.3, ge=0, le=5, description="0 takes the most likely token every time")
    top_p: float = Field(0.9, gt=0, le=1, description="choose among the likeliest tokens of this total")
    seed: int = Field(0, ge=0, lt=2**31, description="equal seeds give equal text")
    max_tokens: int = Field(256, ge=1, le=4096, description="longest answer")


class ChatTurn(Frozen):
    """One model's part of one turn, as stored."""

    id: str
    session: str
    turn: int = Field(description="1 is the first of the conversation")
    place: int = Field(description="column, from 0")
    model: str
    messages: tuple[Message, ...] = Field(description="the conversation up to and with this prompt")
    sampling: Sampling
    state: TurnState
    text: str = Field(description="the answer so far")
    prompt_tokens: int
    tokens: int = Field(description="tokens of the answer so far")
    cached_tokens: int = Field(description="tokens the cache holds")
    prompt_seconds: float = Field(description="time to read the prompt, of this model alone")
    tokens_per_second: float | None = Field(description="measured while answering, time of this model alone")
    kv_bytes: int = Field(description="measured on the cache of this conversation")
    kv_bytes_per_token: int = Field(description="by the formula")
    kv_bytes_per_token_base: int = Field(description="by the formula, of the model it was converted from")
    ending: str = Field(description="why the answer ended: end, length, context; empty before")
    error: str
    hint: str
    created_at: datetime
    updated_at: datetime

    @property
    def prompt(self) -> str:
        """What the user said in this turn."""
        return self.messages[-1].content


class Conversation(Frozen):
    """A conversation in the list of all."""

    session: str
    prompt: str = Field(description="what it began with")
    models: tuple[str, ...] = Field(description="who answers, in the order of their columns")
    turns: int
    updated_at: datetime


class LoadedModel(Frozen):
    """A model the chat process holds."""

    model: str
    bytes: int


class ChatHost(Frozen):
    """The process that answers, while it is there."""

    budget_bytes: int
    memory_bytes: int
    models: tuple[LoadedModel, ...]
