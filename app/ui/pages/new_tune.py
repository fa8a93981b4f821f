# SPDX-License-Identifier: Apache-2.0
"""The tuning view: targets that set the slider, ranks layer by layer, rotary pairs one by one."""

from dataclasses import dataclass

import gradio as gr

from app.ui.components import fields
from app.ui.components.layer_bars import layer_editor
from app.ui.components.pair_map import pair_editor
from app.ui.components.targets import TargetRow, target_rows
from app.ui.strings import RANKS_HELP


@dataclass(frozen=True)
class Tuning:
    """What is under Tune beside the boxes of the form."""

    targets: list[TargetRow]
    spread: gr.Button
    by_slider: gr.Button
    by_rule: gr.Button
    refused: gr.HTML

    @property
    def boxes(self) -> list[gr.Number]:
        """Those of all targets."""
        return [box for row in self.targets for box in row.boxes]


def tune_boxes() -> tuple[fields.Boxes, dict[str, gr.HTML], Tuning]:
    """Boxes of the form, places for what is wrong with them, and the rest."""
    gr.HTML("<h3>Reach a target</h3>")
    targets = target_rows()
    gr.HTML(f'<h3>Rank of every layer</h3><p class="caption">{RANKS_HELP}</p>')
    boxes: fields.Boxes = {"layers": layer_editor()}
    notes = {"layer_ranks": gr.HTML(elem_id="wrong-layer-ranks")}
    with gr.Row(elem_classes="act"):
        spread = gr.Button("Redistribute the rest", size="sm", elem_id="spread")
        by_slider = gr.Button("Reset to the slider", size="sm", elem_id="by-slider")
    refused = gr.HTML(elem_id="wrong-spread")
    gr.HTML("<h3>Rotary pairs that stay</h3>")
    boxes["pairs"] = pair_editor()
    notes["rope_pairs"] = gr.HTML(elem_id="wrong-rope-pairs")
    with gr.Row(elem_classes="act"):
        by_rule = gr.Button("Reset to the rule", size="sm", elem_id="by-rule")
    gr.HTML("<h3>Widths, texts and the card</h3>")
    usual, beside = fields.tune_boxes()
    return boxes | usual, notes | beside, Tuning(targets, spread, by_slider, by_rule, refused)
