# SPDX-License-Identifier: Apache-2.0
"""New conversion: model, what one wants, one slider, one button; everything else is one click deeper."""

from typing import Any

import gradio as gr

from app.services import models, requests
from app.services.profile_jobs import submit_profile
from app.services.workbench import Workbench
from app.ui.components import fields
from app.ui.components.cost import empty_card
from app.ui.components.messages import failure
from app.ui.components.recipe_editor import recipe_editor
from app.ui.components.shell import top_bar
from app.ui.components.stages import stage_boxes
from app.ui.events import GO_TO, LATEST, QUIET
from app.ui.form import BASE, FIELDS, RECIPE, Form, of_preset, remembered
from app.ui.origin import origin_of
from app.ui.pages.new_live import Layout, Live
from app.ui.pages.new_pairs import NOTHING_SENT
from app.ui.pages.new_profile import offer_boxes
from app.ui.pages.new_recipe import READ_CLONED, Answering, RecipePart
from app.ui.pages.new_recipe import attach as attach_recipe
from app.ui.pages.new_sources import OFFERING, Sources
from app.ui.pages.new_sources import attach as attach_sources
from app.ui.pages.new_steer import attach as steer
from app.ui.pages.new_tune import tune_boxes
from core.errors import WorkbenchError

_OF_PRESET = ("keep", "has_weights", "weights_keep", "rope_dim", "kv_rank", *RECIPE, "layers", "pairs")

_HEADING = (
    '<div class="pagehead"><h1>New conversion</h1><a href="/sweep">several budgets at once: sweep</a></div>'
)


def build(workbench: Workbench, page: gr.Blocks) -> None:
    """Lay out the page and attach its handlers."""
    top_bar(workbench, page, "/")
    gr.HTML(_HEADING)
    lineage = gr.HTML(elem_id="lineage")
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=320):
            layout = _form()
        with gr.Column(scale=5, min_width=320, elem_classes="stick"):
            card = gr.HTML(empty_card("Reading the model…"), elem_id="cost")
            # until the first answer nothing is known that could be converted
            convert = gr.Button("Convert", variant="primary", interactive=False, elem_id="convert")
            refused = gr.HTML()
            offer = offer_boxes()
            copies = gr.HTML(elem_id="copies")
    inputs = layout.inputs
    inputs[BASE] = gr.State(None)
    entered = [inputs[name] for name in FIELDS]
    saved = gr.BrowserState({}, storage_key="mla-workbench-form", secret="not-a-secret")
    address, cloned = gr.Textbox(visible="hidden"), gr.Textbox("", visible="hidden")
    recipe, sources = RecipePart(workbench, layout.recipe, lineage), Sources(workbench)
    live = Live(workbench, layout, card, offer, copies, convert, saved, gr.State(NOTHING_SENT))
    shown, asked = live.outputs, [*entered, live.sent]

    def on_change(request: gr.Request, *values: Any) -> list[Any]:
        # who does not say what the heatmap shows already is told all of it
        form, sent = Form.of(values[: len(FIELDS)]), values[len(FIELDS) :]
        return live.answer(form, origin_of(request), *sent)

    def on_unfold(request: gr.Request, *values: Any) -> list[Any]:
        # what was sent to a closed fold piece by piece it has not kept: when it opens it is told all of it
        return live.answer(Form.of(values), origin_of(request))

    def on_submit(text: str, last: str, *values: Any) -> tuple[str, str]:
        form = Form.of(values)
        try:
            request = recipe.request(form, text, last)
            job = requests.submit(workbench, request, parent_id=form.parent or None)
        except WorkbenchError as error:
            return "", failure(error)
        return f"/jobs/{job.id}", ""

    def on_load(kept: dict[str, Any] | None, wanted: str) -> list[Any]:
        form, unknown = recipe.clone(wanted, remembered(kept))
        first = gr.Dropdown(
            value=form["model"], choices=fields.model_choices(models.recent_models(workbench))
        )
        # a number box that was never written shows 0, which is no target
        return [first, *(form[name] for name in FIELDS[1:]), unknown, *[None] * len(layout.tuning.boxes)]

    def on_make(request: gr.Request, *values: Any) -> list[Any]:
        note = ""
        try:
            submit_profile(workbench, Form.of(values[: len(FIELDS)]).request)
        except WorkbenchError as error:
            note = failure(error)
        return [*on_change(request, *values), note]

    def on_tick(request: gr.Request, *values: Any) -> list[Any]:
        return live.progress(Form.of(values[: len(FIELDS)]), origin_of(request), values[-1])

    loaded = [*entered, lineage, *layout.tuning.boxes]
    opened = page.load(on_load, [saved, cloned], loaded, js=READ_CLONED, **QUIET)
    opened.then(on_change, asked, shown, **QUIET).then(
        sources.offered, inputs["model"], [inputs[name] for name in OFFERING], **QUIET
    )
    inputs["preset"].input(on_preset, inputs["preset"], [inputs[name] for name in _OF_PRESET], **QUIET).then(
        on_change, asked, shown, **QUIET
    )
    gr.on(
        [inputs[name].input for name in FIELDS if name not in ("preset", "keep", BASE)],
        on_change,
        asked,
        shown,
        **LATEST,
    )
    layout.folded["Tune"].expand(on_unfold, entered, shown, **QUIET)
    steer(live, layout.tuning, entered)
    offer.make.click(on_make, asked, [*shown, refused], **QUIET)
    offer.timer.tick(on_tick, asked, shown, **LATEST)
    answering = Answering(on_change, asked, shown)
    attach_recipe(recipe, saved, entered, answering)
    attach_sources(sources, inputs, answering)
    convert.click(on_submit, [layout.recipe.text, layout.recipe.last, *entered], [address, refused], **QUIET)
    address.change(None, address, None, js=GO_TO)


def on_preset(name: str) -> list[Any]:
    """A preset sets the budget and every field of the recipe; each can be changed afterwards."""
    values = of_preset(name)
    return [values[one] for one in _OF_PRESET]


def _form() -> Layout:
    layout = Layout()
    with gr.Column(elem_classes="sheet"):
        gr.HTML("<h2>1 Model</h2>")
        layout.inputs["model"] = fields.model_box()
        layout.inputs[fields.MODEL_NOTE] = gr.HTML(elem_id="model-note")
        layout.notes |= {"facts": gr.HTML(elem_id="facts"), "model": gr.HTML(elem_id="wrong-model")}
    with gr.Column(elem_classes="sheet"):
        gr.HTML("<h2>2 How small</h2>")
        layout.inputs["preset"] = fields.preset_box()
        layout.notes["preset"] = gr.HTML(elem_id="preset-note")
        layout.inputs["keep"] = fields.keep_slider()
        layout.notes["keep"] = gr.HTML(elem_id="wrong-budget")
        layout.inputs |= fields.weights_boxes()
        layout.notes["weights_keep"] = gr.HTML(elem_id="wrong-weights")
        with gr.Accordion("Tune", open=False) as layout.folded["Tune"]:
            tuned, beside, layout.tuning = tune_boxes()
        with gr.Accordion("All stages", open=False) as layout.folded["All stages"]:
            stages, under = stage_boxes()
        layout.inputs |= tuned | stages
        layout.notes |= beside | under
        layout.recipe = recipe_editor()
    return layout
