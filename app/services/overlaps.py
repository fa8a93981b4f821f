# SPDX-License-Identifier: Apache-2.0
"""Whether a model was measured on what it was made from, found by comparing the texts themselves."""

import threading
from collections.abc import Sequence

from core.calibrate.text import NAMED, existing_file, read_text, text_parts
from core.errors import TextError
from core.overlap import shared_share

# larger files are not held in memory by the web process
_MOST_BYTES = 50_000_000
_Key = tuple[str, int, int]


class Overlaps:
    """Shares that were found, by both texts with size and time of their files."""

    def __init__(self) -> None:
        self._known: dict[tuple[tuple[_Key, ...], _Key], float] = {}
        self._lock = threading.Lock()

    def share(self, seen: str, held_out: str) -> float | None:
        """The share of `held_out` that stands in the texts `seen` ("a+b"); None when it cannot be said."""
        keys = [_key(one) for one in (*text_parts(seen), held_out)]
        known = [one for one in keys if one is not None]
        if len(known) < len(keys):
            return None
        *parts, last = known
        place = tuple(parts), last
        with self._lock:
            if place in self._known:
                return self._known[place]
        found = _compared([one[0] for one in parts], last[0])
        if found is not None:
            with self._lock:
                self._known[place] = found
        return found


def _key(name: str) -> _Key | None:
    if name in NAMED:
        return name, 0, 0
    path = existing_file(name)
    if path is None or path.stat().st_size > _MOST_BYTES:
        return None
    state = path.stat()
    return str(path), state.st_size, state.st_mtime_ns


def _compared(parts: Sequence[str], held_out: str) -> float | None:
    try:
        return shared_share("\n\n".join(read_text(one) for one in parts), read_text(held_out))
    except TextError:
        # lines of images, or a file that is gone: the report says that nothing was compared
        return None
