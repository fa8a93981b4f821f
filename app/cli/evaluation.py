# SPDX-License-Identifier: Apache-2.0
"""`mla-workbench evaluate`: find the models a user named and measure them."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.services.text_names import resolve
from core.calibrate.text import read_text
from core.errors import ModelError
from core.process import hide_progress_bars
from core.settings import load_settings
from core.weights.locate import locate

_TABLES = ("by_position", "paired", "texts")


def evaluate_model(
    model: str, base: str | None, texts: Sequence[str], context: int, windows: int, *, by_position: bool
) -> dict[str, Any]:
    """The JSON object of the command; the original of a converted model is found in its conversion.json.

    Of several texts the object holds `texts`, the figures of each under its name. Raises ModelError when a
    model is missing, TextError when a text is unusable or too short.
    """
    settings = load_settings()
    contents = {text: read_text(resolve(settings, text, "text")) for text in texts}
    folder = locate(model, settings=settings).folder
    from core.evaluate import evaluate, evaluate_texts, is_converted

    hide_progress_bars()
    original = None
    if is_converted(folder):
        name, revision = _recorded(folder) if base is None else (base, None)
        original = locate(name, revision=revision, settings=settings).folder

    def on_window(done: int, total: int) -> None:
        print(f"window {done} of {total}", file=sys.stderr)

    asked: dict[str, Any] = {
        "base_folder": original,
        "context": context,
        "windows": windows,
        "on_window": on_window,
        "by_position": by_position,
    }
    if len(contents) > 1:
        return evaluate_texts(folder, contents, **asked)
    [content] = contents.values()
    return evaluate(folder, content, **asked)


def table(found: dict[str, Any]) -> list[str]:
    """The lines for people."""
    lines = [f"{name:20} {value}" for name, value in found.items() if name not in _TABLES]
    lines += _paired_lines(found.get("paired"))
    lines += [_position_line(row) for row in found.get("by_position", [])]
    for name, figures in found.get("texts", {}).items():
        lines += ["", name, *table(figures)]
    return lines


def _paired_lines(paired: dict[str, Any] | None) -> list[str]:
    """Each figure with its interval, and whether the difference may be chance."""
    if paired is None:
        return []
    names = "perplexity_ratio", "kl_to_base", "top1_agreement"
    about = f"95 % over {paired['windows']} windows"
    return [f"{name:20} {_span(paired[name])}  ({about})" for name in names] + [
        f"{'p_value':20} {paired['p_value']:.3g}  (both models equally good, by flipped signs of windows)"
    ]


def _span(interval: dict[str, float]) -> str:
    return f"{interval['value']:.4f}, {interval['low']:.4f} to {interval['high']:.4f}"


def _position_line(row: dict[str, Any]) -> str:
    span = "" if row["ratio_low"] is None else f" ({row['ratio_low']:.4g} to {row['ratio_high']:.4g})"
    return (
        f"position {row['from']:5} to {row['to']:5}  perplexity {row['perplexity']:9.4g}, "
        f"original {row['perplexity_base']:9.4g}, x{row['ratio']:.4g}{span}"
    )


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
