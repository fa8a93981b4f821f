# SPDX-License-Identifier: Apache-2.0
"""Facts of a model, read once for as long as its files do not change, so that a slider can move."""

import threading
from collections import OrderedDict
from pathlib import Path

from core.facts import ModelFacts, facts_of
from core.settings import Settings
from core.weights.locate import locate

# headers of a large sharded checkpoint take some 100 ms to read; a form rarely flips between more models
REMEMBERED = 32

Fingerprint = tuple[tuple[str, int, int], ...]


class FactsCache:
    """The last few models by folder and by the name, size and time of every file that facts are read from."""

    def __init__(self) -> None:
        self._facts: OrderedDict[tuple[str, str, Fingerprint], ModelFacts] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, model: str, revision: str | None, settings: Settings) -> ModelFacts:
        """Facts of `model`; raises ModelError when it cannot be found or parsed."""
        located = locate(model, revision=revision, settings=settings)
        key = (located.name, str(located.folder), _fingerprint(located.folder))
        with self._lock:
            known = self._facts.get(key)
        if known is not None:
            return known
        facts = facts_of(located)
        with self._lock:
            self._facts[key] = facts
            while len(self._facts) > REMEMBERED:
                self._facts.popitem(last=False)
        return facts


def _fingerprint(folder: Path) -> Fingerprint:
    files = [*folder.glob("*.json"), *folder.glob("*.safetensors")]
    return tuple(sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files))
