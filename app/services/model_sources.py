# SPDX-License-Identifier: Apache-2.0
"""Where models can be found: in the allowed folders, in the Hub's cache, and on the Hub while online."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from app.services.roots import roots_of
from core.errors import ModelError
from core.settings import Settings
from core.spec import Frozen

# a scan of a large cache takes some 100 ms; new models rarely appear while somebody looks
SCAN_SECONDS = 60.0
SEARCH_SECONDS = 4.0
# a Hub that did not answer is left alone for a while: every letter typed would wait for it again
SILENT_SECONDS = 10.0
# fewer letters match half of the Hub
FEWEST_LETTERS = 3
_DEEP, _MOST_FOLDERS, _MOST_FOUND = 3, 2_000, 200


class FoundModel(Frozen):
    """One model that can be chosen."""

    model: str = Field(description="what a request calls it")
    where: Literal["folder", "cache", "hub"]
    downloads: int | None = Field(None, description="in the last 30 days, of a model on the Hub")


class SearchAnswer(Frozen):
    """What was found, and one sentence when the Hub was not asked or did not answer."""

    models: tuple[FoundModel, ...] = ()
    note: str = ""


class ModelSources:
    """Models on this machine, looked for at most once a minute."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[float, tuple[FoundModel, ...]]] = {}
        self._silence: tuple[float, str] = (-SILENT_SECONDS, "")
        self._lock = threading.Lock()

    def local(self, settings: Settings) -> tuple[FoundModel, ...]:
        """Folders with a model under MLA_MODEL_ROOTS, then snapshots in the Hub's cache."""
        with self._lock:
            at, known = self._found.get(settings.model_roots, (-SCAN_SECONDS, ()))
            if time.monotonic() - at >= SCAN_SECONDS:
                known = (*_in_folders(roots_of(settings.model_roots)), *_in_cache())
                self._found[settings.model_roots] = (time.monotonic(), known)
        return known

    def search(self, settings: Settings, query: str, limit: int = 10) -> SearchAnswer:
        """Models whose name has `query` in it: those that are here, then those on the Hub."""
        words = query.strip().lower()
        here = tuple(one for one in self.local(settings) if words in one.model.lower())[:limit]
        if len(words) < FEWEST_LETTERS:
            return SearchAnswer(models=here, note=f"type {FEWEST_LETTERS} letters to search the Hub")
        since, why = self._silence
        if time.monotonic() - since < SILENT_SECONDS:
            return SearchAnswer(models=here, note=why)
        try:
            there = _on_hub(words, limit)
        except ModelError as error:
            self._silence = (time.monotonic(), f"{error.message}: {error.hint}")
            return SearchAnswer(models=here, note=self._silence[1])
        names = {one.model for one in here}
        return SearchAnswer(models=(*here, *(one for one in there if one.model not in names)))


def _in_folders(roots: Sequence[Path]) -> list[FoundModel]:
    """Folders with a config.json, some levels deep; what cannot be listed is passed over."""
    waiting = [(root, 0) for root in roots]
    found: list[FoundModel] = []
    looked = 0
    while waiting and looked < _MOST_FOLDERS and len(found) < _MOST_FOUND:
        folder, depth = waiting.pop(0)
        looked += 1
        if (folder / "config.json").is_file():
            found.append(FoundModel(model=str(folder), where="folder"))
        elif depth < _DEEP:
            waiting += [(one, depth + 1) for one in _folders_in(folder)]
    return found


def _folders_in(folder: Path) -> list[Path]:
    try:
        # a link may lead out of the root, or back up
        return sorted(
            one
            for one in folder.iterdir()
            if not one.name.startswith(".") and one.is_dir() and not one.is_symlink()
        )
    except OSError:
        return []


def _in_cache() -> list[FoundModel]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir().repos
    except (CacheNotFound, OSError):
        return []
    models = sorted((one for one in repos if one.repo_type == "model"), key=lambda one: -one.last_accessed)
    return [FoundModel(model=one.repo_id, where="cache") for one in models if one.revisions]


def _on_hub(query: str, limit: int) -> list[FoundModel]:
    """Raises ModelError with one sentence when the Hub is not to be asked or does not answer in time."""
    from huggingface_hub import constants, errors, get_session, is_offline_mode
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    if is_offline_mode():
        raise ModelError("the Hub is not searched", hint="HF_HUB_OFFLINE is set")
    wanted: dict[str, str | int] = {
        "search": query,
        "limit": limit,
        "filter": "safetensors",
        "sort": "downloads",
        "direction": -1,
    }
    try:
        # HfApi.list_models has no timeout, and the client it uses waits for ever
        answer = get_session().get(
            f"{constants.ENDPOINT}/api/models",
            params=wanted,
            headers=build_hf_headers(),
            timeout=SEARCH_SECONDS,
        )
        answer.raise_for_status()
        rows = answer.json()
        return [
            FoundModel(model=row["id"], where="hub", downloads=row.get("downloads")) for row in rows[:limit]
        ]
    # of httpx or httpx2, whichever this huggingface_hub is built on
    except (
        errors.HTTPError,  # type: ignore[attr-defined]
        OSError,
        ValueError,
        KeyError,
        TypeError,
    ) as error:
        raise ModelError("the Hub does not answer", hint="check the network, or give a folder") from error
