# SPDX-License-Identifier: Apache-2.0
"""The chat's part of the record, as the rest of the program uses it: one method is one transaction."""

from collections.abc import Mapping, Sequence
from typing import Any

from core.store import chat, chat_host, chat_list
from core.store.chat_views import ChatHost, ChatTurn, Conversation, LoadedModel, Sampling
from core.store.clock import now
from core.store.session import Database

# the name and the queue of the message that wakes a chat worker; it carries nothing
CHAT_TASK = "workers.chat"
CHAT_QUEUE = "chat"
# a free worker answers in milliseconds; a prompt that waits this long was not heard
QUIET_SECONDS = 5.0
_LOST = "the chat process fell silent while it answered", "ask again; the model is loaded anew"


class ChatRecord:
    """Every question and every step of a chat."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # ---- the page and the REST API

    def ask(
        self, conversation: str, models: Sequence[str], prompt: str, sampling: Sampling
    ) -> list[ChatTurn]:
        """Store one waiting turn per model. Ring the bell afterwards."""
        with self._db.write() as session:
            return chat.ask(session, conversation, models, prompt, sampling)

    def read(self, conversation: str) -> list[ChatTurn]:
        """Every turn of a conversation, the models of one turn side by side; empty when there is none."""
        with self._db.read() as session:
            return chat.read(session, conversation)

    def conversations(self, limit: int) -> list[Conversation]:
        """The newest conversations, the one changed last first."""
        with self._db.read() as session:
            return chat_list.conversations(session, limit)

    def count(self) -> int:
        """How many conversations there are."""
        with self._db.read() as session:
            return chat_list.count(session)

    def get(self, turn_id: str) -> ChatTurn:
        """One model's part of a turn; raises StateError when there is none."""
        with self._db.read() as session:
            return chat.get(session, turn_id)

    def request_stop(self, conversation: str) -> int:
        """Stop whatever of the conversation waits or is answered; returns how many turns that are."""
        with self._db.write() as session:
            return chat.request_stop(session, conversation)

    def forget(self, conversation: str) -> None:
        """Delete a conversation."""
        with self._db.write() as session:
            chat.forget(session, conversation)

    def host(self) -> ChatHost | None:
        """The process that answers; None while there is none."""
        with self._db.read() as session:
            return chat_host.view(session)

    # ---- the process that answers, and its supervisor

    def claim_host(self, owner: str, lease_seconds: float, budget_bytes: int) -> bool:
        """Become the host if nobody is. What a lost one left unfinished is failed."""
        with self._db.write() as session:
            won = chat_host.claim(session, owner, lease_seconds, budget_bytes)
            if won:
                chat.abandon_all(session, owner, *_LOST)
            return won

    def beat(self, owner: str, lease_seconds: float, memory_bytes: int) -> bool:
        """Renew the lease; False when it is somebody else's."""
        with self._db.write() as session:
            return chat_host.beat(session, owner, lease_seconds, memory_bytes)

    def hold(self, owner: str, models: Sequence[LoadedModel]) -> bool:
        """Which models are in memory now."""
        with self._db.write() as session:
            return chat_host.hold(session, owner, models)

    def release_host(self, owner: str) -> None:
        """Nobody answers any more."""
        with self._db.write() as session:
            chat_host.release(session, owner)

    def waiting(self) -> list[ChatTurn]:
        """Turns nobody has taken yet, oldest first."""
        with self._db.read() as session:
            return chat.waiting(session)

    def has_waiting(self) -> bool:
        """Whether somebody waits to be answered."""
        with self._db.read() as session:
            return chat.has_waiting(session)

    def take(self, turn_id: str, host: str) -> bool:
        """waiting -> loading; False when somebody else has it, or it was stopped."""
        with self._db.write() as session:
            return chat.take(session, turn_id, host)

    def start(self, turn_id: str, host: str, **values: Any) -> bool:
        """loading -> streaming."""
        with self._db.write() as session:
            return chat.start(session, turn_id, host, values)

    def write(self, host: str, changed: Mapping[str, Mapping[str, Any]]) -> set[str]:
        """Text and numbers of several turns; returns those that somebody wants to end."""
        with self._db.write() as session:
            lost = {one for one, values in changed.items() if not chat.write(session, one, host, values)}
            return chat.to_stop(session, host) | lost

    def finish(self, turn_id: str, host: str, ending: str, **values: Any) -> bool:
        """streaming -> done."""
        with self._db.write() as session:
            return chat.finish(session, turn_id, host, ending, values)

    def stopped(self, turn_id: str, host: str, **values: Any) -> bool:
        """loading or streaming -> stopped."""
        with self._db.write() as session:
            return chat.stopped(session, turn_id, host, values)

    def fail(self, turn_id: str, host: str, error: str, hint: str) -> bool:
        """loading or streaming -> failed."""
        with self._db.write() as session:
            return chat.fail(session, turn_id, host, error, hint)

    def abandon(self, host: str, error: str, hint: str) -> int:
        """Fail everything a host left unfinished; returns how many turns."""
        with self._db.write() as session:
            return chat.abandon(session, host, error, hint)

    def refuse_waiting(self, error: str, hint: str) -> int:
        """Fail everything that waits: whoever should have taken it cannot even start."""
        with self._db.write() as session:
            return chat.refuse_waiting(session, error, hint)

    # ---- whoever looks after the record

    def must_ring(self, quiet_seconds: float = QUIET_SECONDS) -> bool:
        """Heal what a dead host or a lost message left behind; True when a worker should be rung now."""
        with self._db.read() as session:
            alive = chat_host.owner_of(session)
            if not chat.needs_care(session, alive):
                return False
        with self._db.write() as session:
            alive = chat_host.owner_of(session)
            chat.abandon_all(session, alive, *_LOST)
            if alive is not None:
                return False
            chat.give_up(session, now())
            return chat.has_waiting(session) and chat_host.may_ring(session, quiet_seconds)
