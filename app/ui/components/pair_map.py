# SPDX-License-Identifier: Apache-2.0
"""What each rotary pair contributes, layers x frequencies: pairs are kept or dropped by click or by key.

Drawn by static/pair_map.js on a canvas: 80 layers of 64 pairs are 5120 cells, too many for as many elements.
"""

import math
from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.ui.plots.rope_meaning import MEANINGS
from app.ui.tuned import by_rule

Scores = Sequence[Sequence[Sequence[float]]]


def pair_editor() -> gr.HTML:
    """Its value is that of by_rule(); `map` is what the colours show, `solved` which pairs the rule keeps."""
    return gr.HTML(
        by_rule(),
        html_template='<div class="pm"></div>',
        js_on_load="mlaPairMap(element, trigger, props, watch)",
        apply_default_css=False,
        elem_id="pair-map",
        map=None,
        solved={"kept": []},
    )


def shown_map(
    key: str, scores: Scores, inv_freq: Sequence[float], meaning: str, shared: bool
) -> dict[str, Any]:
    """`key` changes when the colours do; `meaning` is one of MEANINGS; `shared`: heads share their pairs."""
    found = MEANINGS[meaning]
    return {
        "key": key,
        "scores": [[[_short(one) for one in row] for row in rows] for rows in scores],
        "row": found.row,
        "unit": found.value,
        "name": "RoPE contribution",
        "drops": found.drops,
        "shared": shared,
        "periods": [f"{found.about}{_period(one)}" for one in inv_freq],
        "hint": "Click a pair to keep or drop it."
        if found.drops
        else "Every pair stays exact: nothing to choose.",
    }


def _short(value: float) -> float:
    """Three digits: what a colour and a hover can show."""
    return float(f"{value:.3g}")


def _period(inv_freq: float) -> str:
    return f"{2 * math.pi / inv_freq:,.3g}" if inv_freq else "∞"
