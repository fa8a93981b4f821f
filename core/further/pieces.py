# SPDX-License-Identifier: Apache-2.0
"""The pieces of an evaluation: one model on one thing. A finished piece is a file, and never done again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Literal

from core.further.spec import Measurements


@dataclass(frozen=True)
class Piece:
    """`about` is a text, a retrieval task or an lm-eval task; context is 0 for the last."""

    kind: Literal["text", "retrieval", "harness"]
    model: str
    about: str
    context: int

    @property
    def words(self) -> str:
        """For a human."""
        at = f" at {self.context:,} tokens" if self.context else ""
        return f"{self.model} on {self.about}{at}"


def pieces_of(
    asked: Measurements, base: str, conversions: Sequence[str], harness: Sequence[str]
) -> list[Piece]:
    """Every piece, model by model, so that each is loaded once. `harness` are lm-eval's own task names.

    A conversion's text includes the original on the same windows, so the original has texts of its own only
    when it is alone.
    """
    found = []
    for model in (base, *conversions):
        if model != base or not conversions:
            found += [Piece("text", model, text, size) for text in asked.texts for size in asked.contexts]
        sizes = asked.retrieval_contexts
        found += [Piece("retrieval", model, task, size) for task in asked.retrieval for size in sizes]
        found += [Piece("harness", model, task, 0) for task in harness]
    return found


class Pieces:
    """Finished pieces in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def find(self, piece: Piece) -> dict[str, Any] | None:
        """What was found, None when it is not done."""
        path = self._path(piece)
        found: dict[str, Any] | None = (
            json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        )
        return found

    def store(self, piece: Piece, found: Mapping[str, Any]) -> None:
        """Whole or not at all."""
        partial = self._path(piece).with_suffix(".partial")
        partial.write_text(json.dumps(found), encoding="utf-8")
        partial.rename(self._path(piece))

    def _path(self, piece: Piece) -> Path:
        name = hashlib.sha256(json.dumps(astuple(piece)).encode()).hexdigest()[:24]
        return self._folder / f"{name}.json"
