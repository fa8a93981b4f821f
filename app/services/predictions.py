# SPDX-License-Identifier: Apache-2.0
"""Stored profiles, at hand while a slider moves."""

import threading
from pathlib import Path

from core.profiles import FILE, Profile, newest_profile

Stored = tuple[tuple[str, int], ...]


class ProfileCache:
    """The newest profile of each model, read again when the stored ones change."""

    def __init__(self) -> None:
        self._profiles: dict[str, tuple[Stored, Profile | None]] = {}
        self._lock = threading.Lock()

    def newest(self, home: Path, model: str) -> Profile | None:
        """As core.profiles.newest_profile, without parsing the same file at every step of a slider."""
        stored = tuple(
            sorted((str(file), file.stat().st_mtime_ns) for file in home.glob(f"profiles/*/{FILE}"))
        )
        with self._lock:
            known = self._profiles.get(model)
        if known is not None and known[0] == stored:
            return known[1]
        found = newest_profile(home, model)
        with self._lock:
            self._profiles[model] = (stored, found)
        return found
