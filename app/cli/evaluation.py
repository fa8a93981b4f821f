# SPDX-License-Identifier: Apache-2.0
"""`mla-workbench evaluate`: find the models a user named and measure them."""

import json
import sys
from pathlib import Path
from typing import Any

from app.services.text_names import resolve
from core.calibrate.text import read_text
from core.errors import ModelError
from core.process import hide_progress_bars
from core.settings import load_settings
from core.weights.locate import locate


def evaluate_model(
    model: str, base: str | None, text: str, context: int, windows: int, *, by_position: bool
) -> dict[str, Any]:
    """The JSON object of the command; the original of a converted model is found in its conversion.json.

    Raises ModelError when a model is missing, TextError when the text is unusable or too short.
    """
    settings = load_settings()
    content = read_text(resolve(settings, text, "text"))
    folder = locate(model, settings=settings).folder
    from core.evaluate import evaluate, is_converted

    hide_progress_bars()
    original = None
    if is_converted(folder):
        name, revision = _recorded(folder) if base is None else (base, None)
        original = locate(name, revision=revision, settings=settings).folder

    def on_window(done: int, total: int) -> None:
        print(f"window {done} of {total}", file=sys.stderr)

    return evaluate(
        folder,
        content,
        base_folder=original,
        context=context,
        windows=windows,
        on_window=on_window,
        by_position=by_position,
    )


def table(found: dict[str, Any]) -> list[str]:
    """The lines for people."""
    positions = found.get("by_position", [])
    lines = [f"{name:20} {value}" for name, value in found.items() if name != "by_position"]
    return lines + [
        f"position {row['from']:5} to {row['to']:5}  perplexity {row['perplexity']:9.4g}, "
        f"original {row['perplexity_base']:9.4g}, x{row['ratio']:.4g}"
        for row in positions
    ]


def _recorded(folder: Path) -> tuple[str, str | None]:
    """(name, revision) of the original, as recorded when it was converted."""
    record = folder / "conversion.json"
    if not record.is_file():
        raise ModelError(
            f"'{folder.name}' does not say what it was converted from",
            hint="name the original model with --base",
            field="model",
        )
    found = json.loads(record.read_text(encoding="utf-8"))["base"]
    return str(found["name"]), found["revision"]
