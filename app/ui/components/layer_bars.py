# SPDX-License-Identifier: Apache-2.0
"""The latent rank of every layer: bars to drag, keys, a table and locks; drawn by static/layer_bars.js."""

from collections.abc import Mapping
from typing import Any, Final

import gradio as gr

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
