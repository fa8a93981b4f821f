# SPDX-License-Identifier: Apache-2.0
"""New conversion: model, what one wants, one slider, one button; everything else is one click deeper."""

from dataclasses import dataclass, field
from html import escape
from typing import Any

import gradio as gr

from app.services import models, requests
from app.services.estimate import Estimate, estimate
from app.services.workbench import Workbench
from app.ui.components import fields
from app.ui.components.copying import copy_as
from app.ui.components.cost import cost_card, empty_card
from app.ui.components.facts import facts_line
from app.ui.components.messages import failure, problem
from app.ui.components.shell import top_bar
from app.ui.components.stages import stage_boxes
from app.ui.events import GO_TO, LATEST, QUIET
from app.ui.form import FIELDS, RECIPE, Form, of_preset, remembered
from app.ui.origin import origin_of
from app.ui.strings import BUDGET_OVERRIDDEN, NOTHING_TO_SELECT, RECIPE_TITLES
from core.errors import WorkbenchError
from core.facts import Problem
from core.presets import PRESETS

_OF_PRESET = ("keep", "rope_dim", "kv_rank", *RECIPE)


@dataclass
class _Layout:
    """The components: boxes by field, places for problems by slot, and what opens when one is inside."""

    inputs: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, gr.HTML] = field(default_factory=dict)
    folded: dict[str, gr.Accordion] = field(default_factory=dict)


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
    entered = [inputs[name] for name in FIELDS]
    saved = gr.BrowserState({}, storage_key="mla-workbench-form", secret="not-a-secret")
    address = gr.Textbox(visible="hidden")
    boxes = [inputs["rope_dim"], inputs["fisher_tokens"]]
    shown = [*layout.notes.values(), *layout.folded.values(), *boxes, card, copies, convert, saved]

    def on_change(request: gr.Request, *values: Any) -> list[Any]:
        form = Form.of(values)
        answer = estimate(workbench, form.request, form.context, form.batch)
        return [
            *_notes(form, answer, list(layout.notes)),
            *_folded(answer),
            *_boxes(form, answer),
            cost_card(answer),
            copy_as(None if answer.problems else answer.spec, origin_of(request)),
            gr.Button(interactive=not answer.problems),
            form.values,
        ]

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
    gr.on([inputs[name].input for name in FIELDS if name != "preset"], on_change, entered, shown, **LATEST)
    convert.click(on_submit, entered, [address, refused], **QUIET)
    address.change(None, address, None, js=GO_TO)


def on_preset(name: str) -> list[Any]:
    """A preset sets the budget and every field of the recipe; each can be changed afterwards."""
    values = of_preset(name)
    return [values[one] for one in _OF_PRESET]


def _form() -> _Layout:
    layout = _Layout()
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
        for title, make in (("Tune", fields.tune_boxes), ("All stages", stage_boxes)):
            with gr.Accordion(title, open=False) as layout.folded[title]:
                inputs, notes = make()
            layout.inputs |= inputs
            layout.notes |= notes
    return layout


def _slot(name: str) -> str:
    """Beside which box a problem with the field `name` of a JobSpec is said."""
    first, _, rest = name.partition(".")
    if first == "recipe":
        return rest if rest in RECIPE else "preset"
    if first in ("keep", "rope_dim", "kv_rank", "preset"):
        return first
    if first == "calibration" and rest.endswith("tokens"):
        return "tokens"
    return "calibration" if first in ("calibration", "evaluation") else "model"


def _notes(form: Form, answer: Estimate, slots: list[str]) -> list[str]:
    """What stands beside every box: its problem, else what is good to know."""
    wrong: dict[str, Problem] = {}
    for one in answer.problems:
        wrong.setdefault(_slot(one.field), one)
    words = {"facts": facts_line(answer.facts), "preset": _preset_note(form)}
    if not form.has_rope_dim:
        words["rope_select"] = f'<p class="caption">{NOTHING_TO_SELECT}</p>'
    if form.is_budget_overridden:
        words["keep"] = f'<p class="caption">{BUDGET_OVERRIDDEN}</p>'
    return [problem(wrong[slot]) if slot in wrong else words.get(slot, "") for slot in slots]


def _preset_note(form: Form) -> str:
    preset = PRESETS.get(str(form.values["preset"]))
    if preset is None:
        return ""
    changed = ", ".join(RECIPE_TITLES.get(name, name) for name in form.changed)
    own = f" <b>Changed: {escape(changed)}.</b>" if changed else ""
    return f'<p class="caption">{escape(preset.paper)}.{own}</p>'


def _folded(answer: Estimate) -> list[Any]:
    """A problem is never hidden: what holds it opens, and stays as it is when there is none."""
    wrong = {_slot(one.field) for one in answer.problems}
    tune, stages = wrong & {"rope_dim", "kv_rank", "calibration", "tokens"}, wrong & set(RECIPE)
    return [gr.Accordion(open=True) if inside else gr.skip() for inside in (tune, stages)]


def _boxes(form: Form, answer: Estimate) -> list[Any]:
    """Boxes whose meaning depends on the recipe."""
    counts = "per head" if form.values["rope_mix"] == "none" else "shared"
    # what an earlier layout was given would be refused by one that has no rotary dims
    rope_dim = fields.rope_dim_box(counts) if form.has_rope_dim else fields.rope_dim_box("none", value=None)
    return [rope_dim, fields.fisher_box(answer.spec is None or answer.spec.recipe.needs_fisher)]
