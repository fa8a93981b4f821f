# SPDX-License-Identifier: Apache-2.0
"""How often an open page may ask: the more of them, the slower each, so that a crowd costs what a few do."""

import threading
import time

# a question takes the web process some milliseconds of a core that conversions need
ASKS_PER_SECOND = 10.0
# a page that was closed is forgotten after this; the slowest asks more often
_FORGOTTEN_SECONDS = 30.0
SLOWEST_SECONDS = 15.0


class Crowd:
    """The pages that asked lately, by session."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()

    def pace(self, session: str, least: float) -> float:
        """Seconds until this page should ask again, `least` when there are few."""
        at = time.monotonic()
        with self._lock:
            self._seen[session] = at
            if len(self._seen) > least * ASKS_PER_SECOND:
                self._seen = {one: seen for one, seen in self._seen.items() if at - seen < _FORGOTTEN_SECONDS}
            crowd = len(self._seen)
        return max(least, min(SLOWEST_SECONDS, round(crowd / ASKS_PER_SECOND, 1)))
