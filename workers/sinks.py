# SPDX-License-Identifier: Apache-2.0
"""Where a running job's events go: a line in its log file and a row in the database."""

import sys
import time
from typing import TextIO

from core.errors import Cancelled
from core.events import Event, Figure, Log, Metric, Progress, StageStarted
from core.store import Store
from workers.insist import insist

# two rows a second are as much as a page that polls can show
SECONDS_PER_ROW = 0.5


class DbSink:
    """Writes every event while the lease is the owner's; stops the job when it is not any more."""

    def __init__(
        self, store: Store, job_id: str, owner: str, *, patience: float, log: TextIO = sys.stderr
    ) -> None:
        self._store = store
        self._job_id = job_id
        self._owner = owner
        self._patience = patience
        self._log = log
        self._last_row = float("-inf")

    def emit(self, event: Event) -> None:
        """Log and store one event; raises Cancelled when the lease is lost."""
        line = _line(event)
        if line:
            self._log.write(f"{time.strftime('%H:%M:%S')} {line}\n")
            self._log.flush()
        if not insist(lambda: self._store_event(event), self._patience):
            raise Cancelled("another worker has taken the job over")

    def _store_event(self, event: Event) -> bool:
        if isinstance(event, Progress) and self._is_too_soon(event):
            return self._store.progress(self._job_id, self._owner, event)
        if isinstance(event, StageStarted):
            self._last_row = float("-inf")
            if event.stage == "verifying":
                self._store.enter_verifying(self._job_id, self._owner)
        return self._store.record(self._job_id, self._owner, event)

    def _is_too_soon(self, event: Progress) -> bool:
        """Whether a row for this step would be one too many; the last step of a stage never is."""
        at = time.monotonic()
        if event.done < event.total and at - self._last_row < SECONDS_PER_ROW:
            return True
        self._last_row = at
        return False


def _line(event: Event) -> str:
    """The event for a human; empty when there is nothing to read in it."""
    match event:
        case StageStarted():
            return f"{event.stage} ({event.total} steps)" if event.total else event.stage
        case Progress():
            return f"{event.stage} {event.done}/{event.total} {event.message}".rstrip()
        case Log():
            return event.message if event.level == "info" else f"{event.level}: {event.message}"
        case Metric():
            return f"{event.name} = {event.value:g} {event.unit}".rstrip()
        case Figure():
            return ""
