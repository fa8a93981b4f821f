# SPDX-License-Identifier: Apache-2.0
"""Finished rows as JSON files: whatever was measured once is not measured again."""

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError

from core.spec import Frozen
from leaderboard.rows import Row
from leaderboard.setting import ROOT, Setting

PACKAGES = ("mla-workbench", "torch", "transformers", "numpy")
# what the figures do not depend on
_UNRELATED = ("core/store",)
_OWN = ("child.py", "convert.py", "quality.py")


class _Measured(Frozen):
    """Figures of a model that may be broken: an infinite perplexity is a result."""

    model_config = ConfigDict(allow_inf_nan=True)


class Conversion(_Measured):
    """What the converting process said of itself."""

    metrics: dict[str, float]
    stages: dict[str, float]


class Quality(_Measured):
    """Converted model against its original on one text."""

    perplexity: float
    perplexity_base: float
    kl_to_base: float
    top1_agreement: float
    tokens: int

    @property
    def ratio(self) -> float:
        return self.perplexity / self.perplexity_base


class Bucket(_Measured):
    """Perplexity ratio of the positions from `start` up to, not including, `end`."""

    start: int
    end: int
    tokens: int
    ratio: float


class Result(_Measured):
    """A finished row; `date` is when it was measured."""

    row: Row
    conversion: Conversion
    quality: dict[str, Quality]
    positions: tuple[Bucket, ...] = ()
    evaluation_seconds: float
    date: str


class Failure(Frozen):
    """A row without figures: the plan refuses its budget, or the conversion failed."""

    row: Row
    message: str
    is_refused: bool


class Results:
    """The rows of one code version in one folder."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        self.folder = folder
        self._setting = setting

    def path(self, row: Row) -> Path:
        """The row's file, named by all that was asked, so that a changed request is another row."""
        asked = [row.model_dump(mode="json"), row.spec(self._setting).model_dump(mode="json")]
        asked.append(self._setting.model_dump(mode="json"))
        tag = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
        name = row.preset if not row.switched else f"{row.preset}-ablation"
        return self.folder / f"{name}-{row.keep:g}-{tag}.json"

    def load(self, row: Row) -> Result | None:
        """The finished row; None when there is none, or when its file is damaged."""
        try:
            return Result.model_validate_json(self.path(row).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValidationError):
            return None

    def save(self, result: Result) -> None:
        """Write the row so that it is there whole or not at all."""
        write_json(self.path(result.row), result.model_dump())


def write_json(path: Path, value: Any) -> None:
    """By a rename: a file that was interrupted is not found later."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    partial.rename(path)


def code_version() -> str:
    """Hash of the programs that convert and measure; documents, page and queue do not count."""
    core = (file.relative_to(ROOT) for file in (ROOT / "core").rglob("*.py"))
    files = [ROOT / file for file in core if not str(file).startswith(_UNRELATED)]
    return _hash_files([*files, *(Path(__file__).with_name(name) for name in _OWN)])


def fingerprint(code: str, model_files: Mapping[str, str], texts: Iterable[str]) -> str:
    """All that decides a row's figures besides its request: programs, machine, weights, texts."""
    parts = [code, versions(), os.cpu_count(), platform.machine(), sorted(model_files.items())]
    parts += [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Of Python and the packages the figures depend on."""
    return {"Python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def _hash_files(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()
