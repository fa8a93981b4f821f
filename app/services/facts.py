# SPDX-License-Identifier: Apache-2.0
"""Facts of a model, read once for as long as its files do not change, so that a slider can move."""

import threading
import time
from collections import OrderedDict
from pathlib import Path

from app.services.roots import check_model_path
from core.facts import ModelFacts, facts_of
from core.settings import Settings
from core.weights.locate import locate, tensors_of

# headers of a large sharded checkpoint take some 100 ms to read; a form rarely flips between more models
REMEMBERED = 32
# asking the Hub which commit a branch is at takes longer than a slider may; branches rarely move
HUB_SECONDS = 600.0

Fingerprint = tuple[tuple[str, int, int], ...]


class FactsCache:
    """The last few models by folder and by the name, size and time of every file that facts are read from."""

    def __init__(self) -> None:
        self._facts: OrderedDict[tuple[str, str, Fingerprint], ModelFacts] = OrderedDict()
        self._hub: dict[tuple[str, str | None], tuple[float, ModelFacts]] = {}
        self._lock = threading.Lock()

    def read(self, model: str, revision: str | None, settings: Settings) -> ModelFacts:
        """Facts of `model`; raises ModelError when it cannot be found, parsed, or may not be asked for."""
        check_model_path(settings, model)
        with self._lock:
            at, found = self._hub.get((model, revision), (0.0, None))
        if found is not None and time.monotonic() - at < HUB_SECONDS:
            return found
        located = locate(model, revision=revision, weights=False, settings=settings)
        key = (located.name, str(located.folder), _fingerprint(located.folder))
        with self._lock:
            known = self._facts.get(key)
        if known is not None:
            return known
        facts = facts_of(located, tensors_of(located))
        with self._lock:
            self._facts[key] = facts
            if located.kind == "hub":
                self._hub[model, revision] = (time.monotonic(), facts)
            while len(self._facts) > REMEMBERED:
                self._facts.popitem(last=False)
        return facts


def _fingerprint(folder: Path) -> Fingerprint:
    files = [*folder.glob("*.json"), *folder.glob("*.safetensors")]
    return tuple(sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files))
