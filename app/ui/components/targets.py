# SPDX-License-Identifier: Apache-2.0
"""Targets: what one wants to reach, each a labelled row whose button sets the slider."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import gradio as gr

from app.services.tuning import LossTarget, RoomTarget, SizeTarget, Target
from core.errors import SpecError

# name of the target -> label and elem_id suffix of each of its boxes
TARGETS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
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
    with gr.Row(elem_classes=["target", f"target-{name}"]):
        numbers = [gr.Number(None, label=label, elem_id=f"target-{suffix}") for label, suffix in boxes]
        button = gr.Button("Set", size="sm", elem_id=f"set-{name}")
    return TargetRow(name, numbers, button, gr.HTML(elem_id=f"wrong-{name}"))


def read_target(name: str, entered: Sequence[float | None]) -> Target:
    """The target of one row; raises SpecError for a box that is empty or no number above 0."""
    labels = [label for label, _ in TARGETS[name]]
    for label, number in zip(labels, entered, strict=True):
        if number is None or number <= 0:
            raise SpecError(f"'{label}' is not set", hint="enter a number above 0", field=name)
    numbers = [float(one or 0) for one in entered]
    if name == "size":
        return SizeTarget(kilobytes=numbers[0])
    if name == "loss":
        return LossTarget(percent=numbers[0])
    return RoomTarget(tokens=max(1, round(numbers[0])), batch=max(1, round(numbers[1])), gigabytes=numbers[2])
