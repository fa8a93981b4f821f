# SPDX-License-Identifier: Apache-2.0
"""Texts that cannot be calibrated or measured on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import WorkbenchError

CONTENTS = {
    "empty": (b"", "is empty"),
    "blank": (b"\n  \n", "is empty"),
    "binary": (bytes(range(256)) * 20, "not UTF-8"),
    "zeros": (b"\0" * 4000, "binary"),
    "latin-1": ("Größe".encode("latin-1") * 500, "not UTF-8"),
    "too short": (b"Just a few words.", "tokens"),
}


@pytest.fixture(params=CONTENTS)
def bad_text(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """(file, what the refusal must say)."""
    content, message = CONTENTS[request.param]
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    return path, message


def test_a_bad_calibration_text(bad_text: tuple[Path, str], refused: Callable[..., WorkbenchError]) -> None:
    path, message = bad_text
    error = refused(calibration={"text": str(path), "tokens": 256, "context": 64})
    assert message in error.message


def test_a_bad_evaluation_text(bad_text: tuple[Path, str], refused: Callable[..., WorkbenchError]) -> None:
    path, message = bad_text
    error = refused(evaluation={"text": str(path), "context": 64, "windows": 2})
    assert message in error.message


@pytest.mark.parametrize("use", ["calibration", "evaluation"])
def test_a_missing_text(use: str, refused: Callable[..., WorkbenchError]) -> None:
    error = refused(**{use: {"text": "no/such/text.txt", "context": 64}})
    assert "there is no text 'no/such/text.txt'" in error.message
    assert "wikipedia" in error.hint


def test_fewer_calibration_tokens_than_one_window(
    refused: Callable[..., WorkbenchError], sample_text: Path
) -> None:
    """100 tokens of a long text do not fill a window of 128."""
    error = refused(calibration={"text": str(sample_text), "tokens": 100, "context": 128})
    assert "one window needs 128" in error.message
