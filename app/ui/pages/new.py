# SPDX-License-Identifier: Apache-2.0
"""New conversion: model, preset, one slider, one button; everything else is one click deeper."""

from typing import Any

import gradio as gr

from app.services import models, requests
from app.services.estimate import Estimate, estimate
from app.services.workbench import Workbench
from app.ui.components import fields
from app.ui.components.copying import copy_as
from app.ui.components.cost import cost_card
from app.ui.components.facts import facts_line
from app.ui.components.messages import failure, problem
from app.ui.components.shell import top_bar
from app.ui.events import GO_TO, LATEST, QUIET
from app.ui.form import FIELDS, Form, initial
from app.ui.origin import origin_of
from app.ui.strings import BUDGET_OVERRIDDEN
from core.errors import WorkbenchError
from core.presets import find_preset
from core.stages import STAGES

_CALIBRATION = ("calibration", "evaluation")
_BUDGET = ("keep",)
_WIDTHS = ("rope_dim", "kv_rank")
_STAGES = ("recipe", "preset")


def build(workbench: Workbench, page: gr.Blocks) -> None:
    """Lay out the page and attach its handlers."""
    top_bar(workbench, page, "/")
    gr.HTML("<h2>New conversion</h2>")
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=320):
            inputs, notes = _form()
        with gr.Column(scale=5, min_width=320, elem_classes="stick"):
            card = gr.HTML(elem_id="cost")
            convert = gr.Button("Convert", variant="primary", elem_id="convert")
            refused = gr.HTML()
            copies = gr.HTML(elem_id="copies")
    entered = [inputs[name] for name in FIELDS]
    saved = gr.BrowserState({}, storage_key="mla-workbench-form", secret="not-a-secret")
    address = gr.Textbox(visible="hidden")
    shown = [*notes, card, copies, convert, saved]

    def on_change(request: gr.Request, *values: Any) -> list[Any]:
        form = Form.of(values)
        answer = estimate(workbench, form.request, form.context, form.batch)
        return _render(form, answer, origin_of(request))

    def on_submit(*values: Any) -> tuple[str, str]:
        try:
            job = requests.submit(workbench, Form.of(values).request)
        except WorkbenchError as error:
            return "", failure(error)
        return f"/jobs/{job.id}", ""

    def on_load(remembered: dict[str, Any] | None) -> list[Any]:
        form = initial() | {key: value for key, value in (remembered or {}).items() if key in FIELDS}
        first = gr.Dropdown(
            value=form["model"], choices=fields.model_choices(models.recent_models(workbench))
        )
        return [first, *(form[name] for name in FIELDS[1:])]

    page.load(on_load, saved, entered, **QUIET).then(on_change, entered, shown, **QUIET)
    inputs["preset"].input(on_preset, inputs["preset"], [inputs[name] for name in _OF_PRESET], **QUIET).then(
        on_change, entered, shown, **QUIET
    )
    gr.on([inputs[name].input for name in FIELDS if name != "preset"], on_change, entered, shown, **LATEST)
    convert.click(on_submit, entered, [address, refused], **QUIET)
    address.change(None, address, None, js=GO_TO)


_OF_PRESET = ("keep", "rope_dim", "kv_rank", "rope_select_start", *STAGES)


def on_preset(name: str) -> list[Any]:
    """A preset sets the budget and every stage; each can be changed afterwards."""
    preset = find_preset(name)
    recipe = preset.recipe.model_dump()
    return [preset.keep * 100, None, None, recipe["rope_select_start"], *(recipe[stage] for stage in STAGES)]


def _form() -> tuple[dict[str, Any], list[gr.HTML]]:
    """The components by field name, and the places where facts and problems are written."""
    inputs: dict[str, Any] = {}
    with gr.Column(elem_classes="sheet"):
        gr.HTML("<h3>1 Model</h3>")
        inputs["model"] = fields.model_box()
        facts, wrong_model = gr.HTML(elem_id="facts"), gr.HTML(elem_id="wrong-model")
    with gr.Column(elem_classes="sheet"):
        gr.HTML("<h3>2 How small</h3>")
        inputs["preset"] = fields.preset_box()
        inputs["keep"] = fields.keep_slider()
        wrong_budget = gr.HTML(elem_id="wrong-budget")
        with gr.Accordion("Tune", open=False):
            inputs |= fields.tune_boxes()
        wrong_tune = gr.HTML(elem_id="wrong-tune")
        with gr.Accordion("All stages", open=False):
            inputs |= fields.stage_boxes()
        wrong_stages = gr.HTML(elem_id="wrong-stages")
    return inputs, [facts, wrong_model, wrong_budget, wrong_tune, wrong_stages]


def _render(form: Form, answer: Estimate, origin: str) -> list[Any]:
    beside = {"budget": _BUDGET, "tune": (*_WIDTHS, *_CALIBRATION), "stages": _STAGES}
    wrong = {name: answer.problem_of(*names) for name, names in beside.items()}
    others = [one for one in answer.problems if one not in wrong.values()]
    budget = problem(wrong["budget"])
    if form.is_budget_overridden and not budget:
        budget = f'<p class="caption">{BUDGET_OVERRIDDEN}</p>'
    return [
        facts_line(answer.facts),
        problem(others[0] if others else None),
        budget,
        problem(wrong["tune"]),
        problem(wrong["stages"]),
        cost_card(answer),
        copy_as(None if answer.problems else answer.spec, origin),
        gr.Button(interactive=not answer.problems),
        form.values,
    ]
