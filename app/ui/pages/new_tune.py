# SPDX-License-Identifier: Apache-2.0
"""The tuning view: targets that set the slider, ranks layer by layer, rotary pairs one by one."""

import gradio as gr

from app.ui.components import fields
from app.ui.components.layer_bars import layer_editor
from app.ui.components.pair_map import pair_editor


def tune_boxes() -> tuple[fields.Boxes, dict[str, gr.HTML]]:
    """Everything under Tune: boxes of the form, and places for what is wrong with them."""
    boxes: fields.Boxes = {"layers": layer_editor()}
    notes = {"layer_ranks": gr.HTML(elem_id="wrong-layer-ranks")}
    boxes["pairs"] = pair_editor()
    notes["rope_pairs"] = gr.HTML(elem_id="wrong-rope-pairs")
    usual, beside = fields.tune_boxes()
    return boxes | usual, notes | beside
