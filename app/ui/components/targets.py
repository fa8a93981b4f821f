# SPDX-License-Identifier: Apache-2.0
"""Targets: what one wants to reach, each a labelled row whose button sets the slider."""

from dataclasses import dataclass

import gradio as gr

# name of the target -> label, info and elem_id suffix of each of its boxes
TARGETS: dict[str, tuple[tuple[str, str], ...]] = {
    "size": (("KB per token", "kilobytes"),),
    "room": (("Tokens", "tokens"), ("Batch", "batch"), ("into GB", "gigabytes")),
    "loss": (("Lose at most, % of perplexity", "percent"),),
}


@dataclass(frozen=True)
class TargetRow:
    """One target: its boxes, the button that sets the slider, the place for why it cannot be reached."""

    name: str
    boxes: list[gr.Number]
    button: gr.Button
    note: gr.HTML


def target_rows() -> list[TargetRow]:
    """All targets, in a column."""
    return [_row(name, boxes) for name, boxes in TARGETS.items()]


def _row(name: str, boxes: tuple[tuple[str, str], ...]) -> TargetRow:
    with gr.Row(elem_classes="target"):
        numbers = [
            gr.Number(None, label=label, minimum=0, elem_id=f"target-{suffix}") for label, suffix in boxes
        ]
        button = gr.Button("Set", size="sm", elem_id=f"set-{name}")
    return TargetRow(name, numbers, button, gr.HTML(elem_id=f"wrong-{name}"))
