# SPDX-License-Identifier: Apache-2.0
"""The latent rank of every layer: bars to drag, keys, a table and locks; drawn by static/layer_bars.js."""

from collections.abc import Mapping
from typing import Any, Final

import gradio as gr

from app.services.estimate import Estimate
from app.ui.tuned import by_slider
from core.planning import make_plan
from core.widths import largest_rank, smallest_rank

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


def shown_layers(found: Estimate) -> dict[str, Any]:
    """What the bars show of an answer; nothing before there is a plan."""
    spec, facts, plan = found.spec, found.facts, found.plan
    if spec is None or facts is None or plan is None:
        return dict(_NOTHING)
    usual = plan
    if spec.layer_ranks is not None:
        usual = make_plan(spec.model_copy(update={"layer_ranks": None}), facts)
    widths = [layer.widths for layer in plan.layers]
    return {
        "solved": [layer.kv_lora_rank for layer in usual.layers],
        "most": [largest_rank(spec.recipe, facts, one.rope_dim) for one in widths],
        "least": smallest_rank(spec.recipe),
        "loss": [],
        "rope": [one.rope_dim for one in widths],
        "rotary": [layer.cached_numbers - layer.kv_lora_rank for layer in plan.layers],
    }
