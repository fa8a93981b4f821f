# SPDX-License-Identifier: Apache-2.0
"""Every field of a recipe as a box, in the order a conversion asks; under each, what is wrong with it."""

from typing import Any, get_args

import gradio as gr

from app.ui.form import OF_WEIGHTS_TITLE, initial, recipe_groups
from app.ui.strings import NO_WEIGHTS, RECIPE_TITLES
from core.spec import Recipe
from core.stages import STAGES

_INFO = {
    "rope_select_start": "start offset, for uniform only",
    "latent_bits": "of a number; 8, 4 and 2 make the cache smaller still, 16 keeps the model's dtype",
    "freqfold": "neighbouring frequencies mixed as one; 1: none, 0: the more, the slower they turn",
}


def stage_boxes() -> tuple[dict[str, Any], dict[str, gr.HTML]]:
    """(boxes, places for problems), both by field."""
    boxes: dict[str, Any] = {}
    notes: dict[str, gr.HTML] = {}
    for title, names in recipe_groups():
        gr.HTML(f"<h3>{title}</h3>")
        of_weights = title == OF_WEIGHTS_TITLE
        if of_weights:
            gr.HTML(f'<p class="caption">{NO_WEIGHTS}</p>', elem_id="no-weights")
        # which of the two is shown follows from the box of the budget, see style.css
        with gr.Column(elem_id="weights-stages" if of_weights else None):
            for name in names:
                boxes[name] = _box(name)
                notes[name] = gr.HTML(elem_id=f"wrong-{name.replace('_', '-')}")
    return boxes, notes


def _box(name: str) -> Any:
    value = initial()[name]
    words: dict[str, Any] = {
        "label": RECIPE_TITLES.get(name, name),
        "elem_id": f"recipe-{name.replace('_', '-')}",
    }
    if name in STAGES:
        stage = STAGES[name]
        # its heading says so
        question = stage.question.removesuffix(" (weights_keep)")
        choices = [(f"{choice}: {about}", choice) for choice, about in stage.ready.items()]
        return gr.Dropdown(choices, value=value, info=question, **words)
    info = _INFO.get(name, Recipe.model_fields[name].description)
    if offered := get_args(Recipe.model_fields[name].annotation):
        return gr.Radio(list(offered), value=value, info=info, **words)
    if isinstance(value, bool):
        return gr.Checkbox(value, info=info, **words)
    if isinstance(value, int | float):
        return gr.Number(value, info=info, precision=0 if isinstance(value, int) else None, **words)
    return gr.Textbox(value, info=info, **words)
