# SPDX-License-Identifier: Apache-2.0
"""Look after the process that answers: start it when somebody asks, keep its lease, watch its memory.

Nothing is computed here. When the process dies, what it was answering fails with words, and it is started
again for those who still wait.
"""

import logging
import os
import secrets
import signal
import socket
import sys
import time
from contextlib import closing
from threading import Event

import psutil

from core.settings import Settings
from core.store import DatabaseUnavailable, Store, open_store
from workers.child import Process, cores
from workers.insist import insist

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
# a token of the largest model that fits takes less
STOP_GRACE_SECONDS = 3.0
# without a setting: what leaves room for a conversion beside it
_SHARE = 0.4
_AGAIN = "ask again; the model is loaded anew"


def chat_budget(settings: Settings) -> int:
    """Bytes the process may take."""
    return int(settings.chat_memory_gb * 1e9) or int(psutil.virtual_memory().total * _SHARE)


def supervise_chat(settings: Settings, stopping: Event) -> None:
    """Answer until nobody has asked for a while; returns at once when somebody else does that already."""
    budget = chat_budget(settings)
    with closing(open_store(settings)) as store:
        # a new claim for every process: what one left behind is never taken for its successor's
        while not stopping.is_set() and store.chat.has_waiting():
            owner = f"{socket.gethostname()}-{os.getpid()}#{secrets.token_hex(4)}"
            if not store.chat.claim_host(owner, settings.lease_seconds, budget):
                logger.info("somebody answers already: nothing to do")
                return
            try:
                ChatSupervisor(settings, store, owner, budget, stopping).run()
            finally:
                store.chat.release_host(owner)


class ChatSupervisor:
    """One process, from its start to its end."""

    def __init__(self, settings: Settings, store: Store, owner: str, budget: int, stopping: Event) -> None:
        self._settings = settings
        self._store = store
        self._owner = owner
        self._budget = budget
        self._stopping = stopping
        self._patience = settings.lease_seconds
        self._lease_ends = time.monotonic() + settings.lease_seconds
        self._next_beat = 0.0
        self._is_lost = self._is_too_large = False

    def run(self) -> None:
        """Start it, stay with it, and say in the record how it ended, if that was not in order."""
        command = [
            sys.executable,
            "-m",
            "workers.chat_host",
            self._owner,
            str(os.getpid()),
            str(self._budget),
        ]
        # an answer and a conversion share the cores: with all of them each would wait for the other's threads
        threads = self._settings.threads or max(1, cores() // 2)
        try:
            child = Process(command, threads, self._settings.home / "logs" / "chat-host.log", self._owner)
        except OSError as error:
            self._fail(f"the chat's process could not be started: {error}", "free space on the disk")
            return
        try:
            code = self._stay_with(child)
        finally:
            child.kill()
        if self._stopping.is_set():
            self._abandon("the chat worker was shut down", "ask again when it is back")
        elif code and not self._is_lost:
            self._fail(*self._words(code, child))

    def _stay_with(self, child: Process) -> int:
        kill_at: float | None = None
        while (code := child.wait(POLL_SECONDS)) is None:
            self._keep_lease(child)
            self._is_too_large = self._is_too_large or child.memory > self._budget
            if self._is_lost or self._is_too_large or (kill_at is not None and time.monotonic() > kill_at):
                child.kill()
            elif self._stopping.is_set() and kill_at is None:
                child.ask_to_stop()
                kill_at = time.monotonic() + STOP_GRACE_SECONDS
        return code

    def _keep_lease(self, child: Process) -> None:
        at = time.monotonic()
        if at < self._next_beat:
            return
        seconds = self._settings.lease_seconds
        # memory is shown live, so it is told more often than a lease needs
        self._next_beat = at + min(1.0, self._settings.heartbeat_seconds)
        try:
            self._is_lost = not self._store.chat.beat(self._owner, seconds, child.memory)
            self._lease_ends = at + seconds
        except DatabaseUnavailable as error:
            logger.warning("chat: %s", error)
            self._is_lost = at > self._lease_ends

    def _words(self, code: int, child: Process) -> tuple[str, str]:
        """(error, hint) for whoever was being answered when the process ended."""
        used, allowed = _gb(child.peak_memory), _gb(self._budget)
        if self._is_too_large:
            return (
                f"the chat took {used}, more than the {allowed} it may take",
                "ask something shorter, choose smaller models, or set MLA_CHAT_MEMORY_GB higher",
            )
        if code == -signal.SIGKILL:
            total = _gb(psutil.virtual_memory().total)
            return (
                f"the chat's process was killed (signal 9) while it answered; its peak was {used} of {total}",
                f"the system kills what takes too much memory. {_AGAIN.capitalize()}",
            )
        if code < 0:
            return f"the chat's process ended by {signal.Signals(-code).name} while it answered", _AGAIN
        return f"the chat's process ended with exit code {code} while it answered", _AGAIN

    def _fail(self, error: str, hint: str) -> None:
        """What was being answered fails. A process that died before it took anything would do so again."""
        if not self._abandon(error, hint):
            insist(lambda: self._store.chat.refuse_waiting(error, hint), self._patience)

    def _abandon(self, error: str, hint: str) -> int:
        return insist(lambda: self._store.chat.abandon(self._owner, error, hint), self._patience)


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
