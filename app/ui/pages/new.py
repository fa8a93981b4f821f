# SPDX-License-Identifier: Apache-2.0
"""New conversion: model, what one wants, one slider, one button; everything else is one click deeper."""

from typing import Any

import gradio as gr

from app.services import models, requests
from app.services.workbench import Workbench
from app.ui.components import fields
from app.ui.components.cost import empty_card
from app.ui.components.messages import failure
from app.ui.components.shell import top_bar
from app.ui.components.stages import stage_boxes
from app.ui.events import GO_TO, LATEST, QUIET
from app.ui.form import BASE, FIELDS, RECIPE, Form, of_preset, remembered
from app.ui.origin import origin_of
from app.ui.pages.new_live import Layout, Live
from app.ui.pages.new_tune import tune_boxes
from core.errors import WorkbenchError

_OF_PRESET = ("keep", "rope_dim", "kv_rank", *RECIPE, "layers", "pairs")


def build(workbench: Workbench, page: gr.Blocks) -> None:
    """Lay out the page and attach its handlers."""
    top_bar(workbench, page, "/")
    gr.HTML("<h2>New conversion</h2>")
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=320):
            layout = _form()
        with gr.Column(scale=5, min_width=320, elem_classes="stick"):
            card = gr.HTML(empty_card("Reading the model…"), elem_id="cost")
            convert = gr.Button("Convert", variant="primary", elem_id="convert")
            refused = gr.HTML()
            copies = gr.HTML(elem_id="copies")
    inputs = layout.inputs
    inputs[BASE] = gr.State(None)
    entered = [inputs[name] for name in FIELDS]
    saved = gr.BrowserState({}, storage_key="mla-workbench-form", secret="not-a-secret")
    address = gr.Textbox(visible="hidden")
    live = Live(workbench, layout, card, copies, convert, saved)
    shown = live.outputs

    def on_change(request: gr.Request, *values: Any) -> list[Any]:
        return live.answer(Form.of(values), origin_of(request))

    def on_submit(*values: Any) -> tuple[str, str]:
        try:
            job = requests.submit(workbench, Form.of(values).request)
        except WorkbenchError as error:
            return "", failure(error)
        return f"/jobs/{job.id}", ""

    def on_load(kept: dict[str, Any] | None) -> list[Any]:
        form = remembered(kept)
        first = gr.Dropdown(
            value=form["model"], choices=fields.model_choices(models.recent_models(workbench))
        )
        return [first, *(form[name] for name in FIELDS[1:])]

    page.load(on_load, saved, entered, **QUIET).then(on_change, entered, shown, **QUIET)
    inputs["preset"].input(on_preset, inputs["preset"], [inputs[name] for name in _OF_PRESET], **QUIET).then(
        on_change, entered, shown, **QUIET
    )
    gr.on(
        [inputs[name].input for name in FIELDS if name not in ("preset", BASE)],
        on_change,
        entered,
        shown,
        **LATEST,
    )
    convert.click(on_submit, entered, [address, refused], **QUIET)
    address.change(None, address, None, js=GO_TO)


def on_preset(name: str) -> list[Any]:
    """A preset sets the budget and every field of the recipe; each can be changed afterwards."""
    values = of_preset(name)
    return [values[one] for one in _OF_PRESET]


def _form() -> Layout:
    layout = Layout()
    with gr.Column(elem_classes="sheet"):
        gr.HTML("<h3>1 Model</h3>")
        layout.inputs["model"] = fields.model_box()
        layout.notes |= {"facts": gr.HTML(elem_id="facts"), "model": gr.HTML(elem_id="wrong-model")}
    with gr.Column(elem_classes="sheet"):
        gr.HTML("<h3>2 How small</h3>")
        layout.inputs["preset"] = fields.preset_box()
        layout.notes["preset"] = gr.HTML(elem_id="preset-note")
        layout.inputs["keep"] = fields.keep_slider()
        layout.notes["keep"] = gr.HTML(elem_id="wrong-budget")
        for title, make in (("Tune", tune_boxes), ("All stages", stage_boxes)):
            with gr.Accordion(title, open=False) as layout.folded[title]:
                inputs, notes = make()
            layout.inputs |= inputs
            layout.notes |= notes
        # whatever else shows or sets the whole form has its place here
    return layout
