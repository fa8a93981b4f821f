# SPDX-License-Identifier: Apache-2.0
"""Which units of a conversion are on disk, so that it can be resumed."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Manifest:
    """A small JSON file, replaced atomically after every unit. Bound to one fingerprint."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        """Load what an earlier run entered; entries of another fingerprint are not ours and are ignored."""
        self._path = path
        self._fingerprint = fingerprint
        self._units: dict[str, dict[str, Any]] = {}
        if path.is_file():
            stored = json.loads(path.read_text())
            if stored["fingerprint"] == fingerprint:
                self._units = stored["units"]

    def __contains__(self, unit: str) -> bool:
        return unit in self._units

    def note(self, unit: str) -> Mapping[str, Any]:
        """What was noted with the unit."""
        note: Mapping[str, Any] = self._units[unit]["note"]
        return note

    def enter(self, unit: str, sha256: str, note: Mapping[str, object]) -> None:
        """Record that the unit's bytes are safely on disk."""
        self._units[unit] = {"sha256": sha256, "note": dict(note)}
        self.save()

    def sha256(self, unit: str) -> str:
        """The digest the unit was entered with."""
        digest: str = self._units[unit]["sha256"]
        return digest

    def drop(self, unit: str) -> None:
        """Forget the unit: its bytes have to be written again."""
        del self._units[unit]
        self.save()

    def save(self) -> None:
        """Write the manifest, then rename it over the old one."""
        partial = self._path.with_name(self._path.name + ".partial")
        with partial.open("w") as handle:
            json.dump({"fingerprint": self._fingerprint, "units": self._units}, handle)
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(self._path)
