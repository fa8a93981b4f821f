# SPDX-License-Identifier: Apache-2.0
"""Chat: ask up to three models the same thing, read the answers as they grow, stop."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from app.api.access import Bench
from app.services import chat
from core.store import chat_views
from core.store.chat_views import ChatHost, ChatTurn, Sampling

router = APIRouter(prefix="/chat", tags=["chat"])


class Question(BaseModel):
    """A prompt for several models at once."""

    models: Annotated[list[str], Field(min_length=1, max_length=chat.MOST_MODELS)]
    prompt: str
    session: str | None = Field(
        None, description="goes on with that conversation; without it a new one starts"
    )
    sampling: Sampling = Sampling()


class Conversation(BaseModel):
    """Every turn so far, the models of one turn side by side."""

    session: str
    turns: list[ChatTurn]


class ConversationList(BaseModel):
    """The newest conversations, the one changed last first."""

    conversations: list[chat_views.Conversation]
    total: int = Field(description="how many there are without the limit")


class Speakers(BaseModel):
    """Who can be asked, and the process that answers."""

    models: list[chat.ChatModel]
    host: ChatHost | None = Field(description="None while nobody chats: it starts with the first prompt")


@router.get("")
def speakers(bench: Bench) -> Speakers:
    """The models one can talk to, and which of them are in memory."""
    return Speakers(models=chat.models(bench), host=bench.store.chat.host())


@router.post("", status_code=201)
def ask(bench: Bench, question: Question) -> Conversation:
    """Ask. The answers are written by a worker: read the conversation until every turn has ended."""
    turns = chat.ask(bench, question.models, question.prompt, question.sampling, question.session)
    return Conversation(session=turns[0].session, turns=turns)


@router.get("/conversations")
def conversations(bench: Bench, limit: Annotated[int, Query(ge=1, le=500)] = 50) -> ConversationList:
    """What was asked before. One conversation is read at /chat/{session}."""
    found = bench.store.chat.conversations(limit)
    return ConversationList(conversations=found, total=bench.store.chat.count())


@router.get("/{session}")
def read(bench: Bench, session: str) -> Conversation:
    """The conversation as it stands; while a turn is streaming its text and numbers grow."""
    return Conversation(session=session, turns=chat.read(bench, session))


@router.post("/{session}/stop")
def stop(bench: Bench, session: str) -> Conversation:
    """End every answer of the conversation within a token; what was written stays."""
    return Conversation(session=session, turns=chat.stop(bench, session))


@router.delete("/{session}", status_code=204)
def forget(bench: Bench, session: str) -> None:
    """Delete the conversation."""
    chat.forget(bench, session)
