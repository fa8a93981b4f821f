# SPDX-License-Identifier: Apache-2.0
"""What each rotary pair contributes, layers x frequencies: pairs are kept or dropped by click or by key.

Drawn by static/pair_map.js on a canvas: 80 layers of 64 pairs are 5120 cells, too many for as many elements.
"""

import math
from typing import Any

import gradio as gr

from app.services.tuning import PairView
from app.ui.plots.rope_meaning import MEANINGS
from app.ui.strings import NO_PAIRS, PAIRS_EXACT, PAIRS_TOGGLE, PAIRS_UNKNOWN
from app.ui.tuned import by_rule


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


def shown_map(view: PairView | None, key: str, has_pairs: bool = True) -> dict[str, Any]:
    """What the colours mean, which does not move with the slider; `key` changes when they do.

    Without a view, or rotary pairs in the model, what is said in its place.
    """
    if view is None:
        return {"words": PAIRS_UNKNOWN if has_pairs else NO_PAIRS}
    found = MEANINGS[view.meaning]
    return {
        "key": key,
        "scores": [[[_short(one) for one in row] for row in rows] for rows in view.scores],
        "row": found.row,
        "unit": found.value,
        "name": "RoPE contribution",
        "drops": found.drops,
        "shared": view.is_shared,
        "periods": [f"{found.about}{_period(one)}" for one in view.inv_freq],
        "turns": [round(2 * math.pi / one, 6) if one else None for one in view.inv_freq],
        "hint": PAIRS_TOGGLE if found.drops else PAIRS_EXACT,
    }


def shown_kept(view: PairView | None) -> dict[str, Any]:
    """Which pairs the rule keeps at the budget: what is outlined until somebody chooses others."""
    return {"kept": [[[*row] for row in rows] for rows in view.kept] if view else []}


def _short(value: float) -> float:
    """Three digits: what a colour and a hover can show."""
    return float(f"{value:.3g}")


def _period(inv_freq: float) -> str:
    return f"{2 * math.pi / inv_freq:,.3g}" if inv_freq else "∞"
