# SPDX-License-Identifier: Apache-2.0
"""What was read a moment ago: fifty open pages of one job ask the record once, not fifty times."""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")

SECONDS = 1.0
_MANY = 256


class Recent:
    """Answers by question, each good for `seconds`."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._known: dict[Hashable, tuple[float, Any]] = {}
        self._lock = threading.Lock()

    def get(self, question: Hashable, read: Callable[[], T]) -> T:
        """What `read` gave within the last moment, or gives now."""
        with self._lock:
            at, known = self._known.get(question, (float("-inf"), None))
        if time.monotonic() - at < self._seconds:
            return known  # type: ignore[no-any-return]  # it came from a `read` of the same question
        found = read()
        at = time.monotonic()
        with self._lock:
            if len(self._known) >= _MANY:
                self._known = {one: kept for one, kept in self._known.items() if at - kept[0] < self._seconds}
            self._known[question] = (at, found)
        return found

    def forget(self) -> None:
        """Somebody changed the record through this process: they must see it at once."""
        with self._lock:
            self._known.clear()
