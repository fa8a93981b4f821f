# SPDX-License-Identifier: Apache-2.0
"""The latent rank of every layer: bars to drag, keys, a table and locks; drawn by static/layer_bars.js."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import gradio as gr

from app.services.estimate import LayerTune
from app.ui.tuned import by_slider

_NOTHING: Final[Mapping[str, Any]] = {
    "solved": [],
    "most": [],
    "least": 1,
    "loss": [],
    "rope": [],
    "rotary": [],
}


def layer_editor() -> gr.HTML:
    """Its value is that of by_slider(); `shown` is what the server says of the layers."""
    return gr.HTML(
        by_slider(),
        html_template='<div class="lb"></div>',
        js_on_load="mlaLayerBars(element, trigger, props, watch)",
        apply_default_css=False,
        elem_id="layer-bars",
        shown=dict(_NOTHING),
    )


def shown_layers(layers: Sequence[LayerTune], solved: Sequence[int], least: int) -> dict[str, Any]:
    """What the bars show of an answer: losses are of the ranks as they are, `solved` the slider's ranks."""
    if not layers or len(layers) != len(solved):
        return dict(_NOTHING)
    return {
        "solved": [*solved],
        "most": [one.most_rank for one in layers],
        "least": least,
        "loss": [None if one.loss is None else float(f"{one.loss:.3g}") for one in layers],
        "rope": [one.rope_dim for one in layers],
        "rotary": [one.cached_numbers - one.rank for one in layers],
    }
