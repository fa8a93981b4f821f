# SPDX-License-Identifier: Apache-2.0
"""Heal: how the result of a finished job learns from its original; ?job= names it, ?clone= a healing."""

from typing import Any

import gradio as gr

from app.services import healing, requests
from app.services.upload_list import uploaded_for
from app.services.workbench import Workbench
from app.ui.components.copying import copy_as
from app.ui.components.fields import UPLOAD_NOTE, UPLOAD_TEXT, evaluation_choices, text_choices
from app.ui.components.healing_card import heading, healing_card
from app.ui.components.healing_fields import AMOUNT, amount_choices, healing_boxes
from app.ui.components.messages import failure, problem
from app.ui.components.shell import top_bar
from app.ui.events import GO_TO, LATEST, QUIET
from app.ui.format import rough_duration
from app.ui.healing_form import AMOUNTS, FIELDS, MORE, amount_of, asked_of, initial, of_spec, slot_of
from app.ui.origin import origin_of
from app.ui.pages.new_sources import Sources
from app.ui.strings import HEALING_ABOUT
from core.errors import WorkbenchError
from core.facts import Problem
from core.store.views import JobView

_READ_ADDRESS = (
    "() => { const said = new URLSearchParams(window.location.search);"
    " return [said.get('job') || '', said.get('clone') || ''] }"
)
_NOTHING = "Choose “Heal” on the page of a finished conversion."


def build(workbench: Workbench, page: gr.Blocks) -> None:
    """Lay out the page and attach its handlers."""
    top_bar(workbench, page, "/jobs")
    job_id, clone = gr.Textbox("", visible="hidden"), gr.Textbox("", visible="hidden")
    address = gr.Textbox(visible="hidden")
    title = gr.HTML("<h1>Heal</h1>", elem_id="heal-title")
    with gr.Column(visible=False) as whole, gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=320, elem_classes="sheet"):
            gr.HTML(f'<p class="caption">{HEALING_ABOUT}</p>')
            boxes, notes, more = healing_boxes()
        with gr.Column(scale=5, min_width=320, elem_classes="stick"):
            card = gr.HTML(elem_id="heal-card")
            start = gr.Button("Heal", variant="primary", interactive=False, elem_id="start-heal")
            refused = gr.HTML()
            copies = gr.HTML(elem_id="copies")
    entered = [boxes[name] for name in FIELDS]
    shown = [*notes.values(), more, card, copies, start, boxes[AMOUNT]]
    sources = Sources(workbench)

    def on_open(wanted: str, cloned: str) -> list[Any]:
        try:
            source, values = _opened(workbench, wanted, cloned)
        except WorkbenchError as error:
            return [failure(error), gr.Column(visible=False), "", *[gr.skip()] * len(FIELDS)]
        filled = [values[name] for name in FIELDS]
        place = FIELDS.index("text"), FIELDS.index("evaluation_text")
        texts = uploaded_for(workbench, source.spec.model)
        for index, choices in zip(place, (text_choices(texts), evaluation_choices(texts)), strict=True):
            filled[index] = gr.Dropdown(choices=choices, value=filled[index])
        return [heading(source), gr.Column(visible=True), source.id, *filled]

    def on_change(wanted: str, request: gr.Request, *values: Any) -> list[Any]:
        if not wanted:
            return [gr.skip()] * len(shown)
        return _answer(workbench, wanted, origin_of(request), values, list(notes))

    def on_amount(amount: str | None) -> Any:
        return AMOUNTS[amount][1] if amount else gr.skip()

    def on_upload(path: str | None, wanted: str) -> list[Any]:
        return sources.upload(path, requests.find_job(workbench, wanted).spec.model)

    def on_submit(wanted: str, *values: Any) -> tuple[str, str]:
        try:
            asked = healing.healing_request(healing.healable(workbench, wanted), *asked_of(values))
            return f"/jobs/{requests.submit(workbench, asked).id}", ""
        except WorkbenchError as error:
            return "", failure(error)

    asked = [job_id, *entered]
    page.load(on_open, [job_id, clone], [title, whole, job_id, *entered], js=_READ_ADDRESS, **QUIET).then(
        on_change, asked, shown, **QUIET
    )
    boxes[AMOUNT].input(on_amount, boxes[AMOUNT], boxes["tokens"], **QUIET).then(
        on_change, asked, shown, **QUIET
    )
    gr.on([one.input for one in entered], on_change, asked, shown, **LATEST)
    texts = [boxes["text"], boxes["evaluation_text"], boxes[UPLOAD_NOTE]]
    boxes[UPLOAD_TEXT].upload(on_upload, [boxes[UPLOAD_TEXT], job_id], texts, **QUIET).then(
        on_change, asked, shown, **QUIET
    )
    start.click(on_submit, asked, [address, refused], **QUIET)
    address.change(None, address, None, js=GO_TO)


def _opened(workbench: Workbench, wanted: str, cloned: str) -> tuple[JobView, dict[str, Any]]:
    """The job to heal and the first values of the form; raises WorkbenchError without one."""
    if cloned:
        source, spec = healing.asked_before(workbench, cloned)
        return healing.healable(workbench, source), of_spec(spec)
    if not wanted:
        raise WorkbenchError("no job is named", hint=_NOTHING)
    job = healing.healable(workbench, wanted)
    return job, initial(job.spec.evaluation)


def _answer(
    workbench: Workbench, wanted: str, origin: str, values: tuple[Any, ...], slots: list[str]
) -> list[Any]:
    """Everything that follows from the boxes, in the order of `shown`."""
    job = requests.find_job(workbench, wanted)
    asked, evaluation = asked_of(values)
    found = healing.estimate_healing(workbench, healing.healing_request(job, asked, evaluation))
    wrong: dict[str, Problem] = {}
    for one in found.problems:
        wrong.setdefault(slot_of(one.field), one)
    is_inside = bool(wrong.keys() & {*MORE, "evaluation"})
    return [
        *(problem(wrong.get(slot)) for slot in slots),
        gr.Accordion(open=True) if is_inside else gr.skip(),
        healing_card(job, found),
        copy_as(None if found.problems else found.spec, origin),
        gr.Button(interactive=not found.problems),
        gr.Radio(
            choices=amount_choices(_times(workbench, job, asked, evaluation)),
            value=amount_of(asked.get("tokens", initial()["tokens"])),
        ),
    ]


def _times(
    workbench: Workbench, job: JobView, asked: dict[str, Any], evaluation: dict[str, Any] | None
) -> list[str]:
    """How long each amount would take, where that is known."""
    found = []
    for _, tokens in AMOUNTS.values():
        request = healing.healing_request(job, asked | {"tokens": tokens}, evaluation)
        time = healing.estimate_healing(workbench, request).time
        found.append(f"about {rough_duration(time.seconds)}" if time else "")
    return found
