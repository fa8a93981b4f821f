# SPDX-License-Identifier: Apache-2.0
"""Take who waits, give every answer the same time, write down what has grown, ten times a second."""

import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from core.chat.answer import Answer
from core.chat.choosing import Chooser
from core.chat.shelf import Shelf
from core.errors import WorkbenchError
from core.store import ChatRecord
from core.store.chat_views import ChatTurn, LoadedModel
from workers.insist import insist

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)

# how often the record hears of what is new; a page shows it as a steady flow
WRITE_SECONDS = 0.1
# how often somebody who asks is looked for while nobody is answered
LOOK_SECONDS = 0.15
# answers at the same time; more would all be slow
MOST = 6
# how long the database may be away before the process gives up
PATIENCE = 15.0


@dataclass
class Speaking:
    """An answer being written, and the time it is given credit for."""

    turn: ChatTurn
    answer: Answer
    head_start: float

    @property
    def time(self) -> float:
        """Whoever has had the least computes next: the faster of two models is ahead, as it should be."""
        return self.head_start + self.answer.seconds


class ChatLoop:
    """The work of the process that answers. One bad turn ends that turn and nothing else."""

    def __init__(
        self,
        record: ChatRecord,
        owner: str,
        shelf: Shelf,
        must_stop: Callable[[], bool],
        idle_seconds: float,
    ) -> None:
        self._record = record
        self._owner = owner
        self._shelf = shelf
        self._must_stop = must_stop
        self._idle_seconds = idle_seconds
        self._speaking: dict[str, Speaking] = {}

    def run(self) -> None:
        """Until asked to stop, or until nobody has asked anything for a while."""
        last_asked = time.monotonic()
        while not self._must_stop():
            self._take_waiting()
            if self._speaking:
                self._speak(time.monotonic() + WRITE_SECONDS)
                self._write()
                last_asked = time.monotonic()
            elif time.monotonic() - last_asked > self._idle_seconds:
                return
            else:
                time.sleep(LOOK_SECONDS)

    def _take_waiting(self) -> None:
        for turn in _sure(self._record.waiting):
            if len(self._speaking) >= MOST or self._must_stop():
                return
            in_use = {one.turn.model for one in self._speaking.values()}
            try:
                if self._shelf.must_wait(turn.model, in_use):
                    continue
                if self._take(turn):
                    self._begin(turn, in_use)
            except WorkbenchError as error:
                self._refuse(turn, error.message, error.hint)
            except Exception as error:
                # not one of ours: the trace goes to the log, a line to the page
                logger.warning("%s", traceback.format_exc())
                self._refuse(turn, f"{type(error).__name__}: {error}", "logs/chat-host.log has the details")

    def _take(self, turn: ChatTurn) -> bool:
        return _sure(self._record.take, turn.id, self._owner)

    def _begin(self, turn: ChatTurn, in_use: set[str]) -> None:
        """Load the model if need be and get ready to read the prompt."""
        speaker = self._shelf.get(turn.model, in_use)
        held = [LoadedModel(model=name, bytes=size) for name, size in self._shelf.held.items()]
        _sure(self._record.hold, self._owner, held)
        sampling = turn.sampling
        chooser = Chooser(sampling.temperature, sampling.top_p, sampling.seed)
        messages = [one.model_dump() for one in turn.messages]
        answer = Answer(speaker, messages, chooser, sampling.max_tokens)
        started = _sure(
            self._record.start,
            turn.id,
            self._owner,
            prompt_tokens=answer.prompt_tokens,
            kv_bytes_per_token=speaker.kv_bytes_per_token,
            kv_bytes_per_token_base=speaker.kv_bytes_per_token_base,
        )
        if started:
            least = min((one.time for one in self._speaking.values()), default=0.0)
            self._speaking[turn.id] = Speaking(turn, answer, least)

    def _refuse(self, turn: ChatTurn, error: str, hint: str) -> None:
        """Fail a turn, taken or not."""
        self._take(turn)
        _sure(self._record.fail, turn.id, self._owner, error, hint)
        self._speaking.pop(turn.id, None)

    def _speak(self, until: float) -> None:
        """Steps for whoever has had the least time, until it is time to write, or nobody is left to speak."""
        while time.monotonic() < until:
            ready = [one for one in self._speaking.values() if not one.answer.ending]
            if not ready:
                return
            next_one = min(ready, key=lambda one: one.time)
            try:
                next_one.answer.step()
            except Exception as error:
                logger.warning("%s", traceback.format_exc())
                self._refuse(
                    next_one.turn, f"{type(error).__name__}: {error}", "logs/chat-host.log has the details"
                )

    def _write(self) -> None:
        """Text and numbers of all, in one transaction; then the ends, and whom somebody wants to end."""
        values = {name: _values(one.answer) for name, one in self._speaking.items()}
        to_end = _sure(self._record.write, self._owner, values)
        for name, one in [*self._speaking.items()]:
            if one.answer.ending:
                _sure(self._record.finish, name, self._owner, one.answer.ending)
            elif name in to_end:
                _sure(self._record.stopped, name, self._owner)
            else:
                continue
            del self._speaking[name]


def _sure(call: Callable[P, T], *args: P.args, **values: P.kwargs) -> T:
    """The call, tried again while the database is away."""
    return insist(lambda: call(*args, **values), PATIENCE)


def _values(answer: Answer) -> dict[str, Any]:
    return {"text": answer.text} | answer.numbers
