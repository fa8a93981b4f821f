# SPDX-License-Identifier: Apache-2.0
"""Evaluate further: what else is measured of a finished job; ?job= names it, ?clone= an evaluation."""

from typing import Any

import gradio as gr

from app.services import measuring, requests
from app.services.measuring import EvaluationEstimate
from app.services.roots import JOB
from app.services.upload_list import uploaded_for
from app.services.workbench import Workbench
from app.ui.components.comparison import label_of
from app.ui.components.copying import copy_as
from app.ui.components.evaluation_card import evaluation_card, heading
from app.ui.components.evaluation_fields import AMOUNT, amount_choices, evaluation_boxes, measured_texts
from app.ui.components.fields import UPLOAD_NOTE, UPLOAD_TEXT
from app.ui.components.messages import failure, problem
from app.ui.components.shell import top_bar
from app.ui.evaluation_form import AMOUNTS, FIELDS, amount_of, asked_of, filled, initial, of_spec, slot_of
from app.ui.events import GO_TO, LATEST, QUIET
from app.ui.format import rough_duration
from app.ui.origin import origin_of
from app.ui.pages.new_sources import Sources
from app.ui.strings import EVALUATION_ABOUT
from core.errors import WorkbenchError
from core.facts import Problem
from core.store.views import JobView

_READ_ADDRESS = (
    "() => { const said = new URLSearchParams(window.location.search);"
    " return [said.get('job') || '', said.get('clone') || ''] }"
)
_NOTHING = "Choose “Evaluate further” on the page of a finished conversion."
_TEXTS = FIELDS.index("texts"), FIELDS.index("essay")


def build(workbench: Workbench, page: gr.Blocks) -> None:
    """Lay out the page and attach its handlers."""
    top_bar(workbench, page, "/jobs")
    job_id, clone = gr.Textbox("", visible="hidden"), gr.Textbox("", visible="hidden")
    address = gr.Textbox(visible="hidden")
    title = gr.HTML("<h1>Evaluate further</h1>", elem_id="evaluate-title")
    with gr.Column(visible=False) as whole, gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=320, elem_classes="sheet"):
            gr.HTML(f'<p class="caption">{EVALUATION_ABOUT}</p>')
            boxes, notes, more = evaluation_boxes()
        with gr.Column(scale=5, min_width=320, elem_classes="stick"):
            card = gr.HTML(elem_id="evaluate-card")
            start = gr.Button("Evaluate", variant="primary", interactive=False, elem_id="start-evaluate")
            refused = gr.HTML()
            copies = gr.HTML(elem_id="copies")
    entered = [boxes[name] for name in FIELDS]
    shown = [*notes.values(), more, card, copies, start, boxes[AMOUNT]]
    sources = Sources(workbench)

    def on_open(wanted: str, cloned: str) -> list[Any]:
        try:
            job, values = _opened(workbench, wanted, cloned)
        except WorkbenchError as error:
            return [failure(error), gr.Column(visible=False), "", *[gr.skip()] * len(FIELDS)]
        return [heading(job), gr.Column(visible=True), job.id, *_offered(workbench, job, values)]

    def on_change(wanted: str, request: gr.Request, *values: Any) -> list[Any]:
        if not wanted:
            return [gr.skip()] * len(shown)
        return _answer(workbench, wanted, origin_of(request), values, list(notes))

    def on_amount(amount: str | None) -> list[Any]:
        values = filled(amount) if amount else [None] * len(FIELDS)
        return [gr.skip() if value is None else value for value in values]

    def on_upload(path: str | None, wanted: str, texts: list[str]) -> list[Any]:
        if not path:
            return [gr.skip()] * 2
        model = requests.find_job(workbench, wanted).spec.model
        stored, note = sources.stored(path, model)
        chosen = [*texts, *([stored] if stored else [])]
        return [gr.Dropdown(choices=measured_texts(uploaded_for(workbench, model)), value=chosen), note]

    def on_submit(wanted: str, *values: Any) -> tuple[str, str]:
        try:
            job = measuring.measurable(workbench, wanted)
            asked = measuring.evaluation_request(job, asked_of(values))
            return f"/jobs/{requests.submit(workbench, asked).id}", ""
        except WorkbenchError as error:
            return "", failure(error)

    asked = [job_id, *entered]
    page.load(on_open, [job_id, clone], [title, whole, job_id, *entered], js=_READ_ADDRESS, **QUIET).then(
        on_change, asked, shown, **QUIET
    )
    boxes[AMOUNT].input(on_amount, boxes[AMOUNT], entered, **QUIET).then(on_change, asked, shown, **QUIET)
    # what is pasted, and a name that is typed into a list, is no input to Gradio, only a change
    typed = (gr.Textbox, gr.Dropdown)
    events = [one.change if isinstance(one, typed) else one.input for one in entered]
    gr.on(events, on_change, asked, shown, **LATEST)
    boxes[UPLOAD_TEXT].upload(
        on_upload,
        [boxes[UPLOAD_TEXT], job_id, boxes["texts"]],
        [boxes["texts"], boxes[UPLOAD_NOTE]],
        **QUIET,
    ).then(on_change, asked, shown, **QUIET)
    start.click(on_submit, asked, [address, refused], **QUIET)
    address.change(None, address, None, js=GO_TO)


def _opened(workbench: Workbench, wanted: str, cloned: str) -> tuple[JobView, dict[str, Any]]:
    """The job whose result is measured and the first values; raises WorkbenchError without one."""
    if cloned:
        source, spec = measuring.measured_before(workbench, cloned)
        return measuring.measurable(workbench, source), of_spec(spec)
    if not wanted:
        raise WorkbenchError("no job is named", hint=_NOTHING)
    job = measuring.measurable(workbench, wanted)
    return job, initial(measuring.usual_models(workbench, job))


def _offered(workbench: Workbench, job: JobView, values: dict[str, Any]) -> list[Any]:
    """The values in the order of FIELDS, with what models and texts there are."""
    found = [values[name] for name in FIELDS]
    texts = measured_texts(uploaded_for(workbench, job.spec.model))
    for place in _TEXTS:
        found[place] = gr.Dropdown(choices=texts, value=found[place])
    models = [(label_of(one), f"{JOB}{one.id}") for one in measuring.beside(workbench, job)]
    place = FIELDS.index("conversions")
    found[place] = gr.Dropdown(choices=models, value=found[place])
    return found


def _answer(
    workbench: Workbench, wanted: str, origin: str, values: tuple[Any, ...], slots: list[str]
) -> list[Any]:
    """Everything that follows from the boxes, in the order of `shown`."""
    job = requests.find_job(workbench, wanted)
    found = _estimate(workbench, job, asked_of(values))
    wrong: dict[str, Problem] = {}
    for one in found.problems:
        wrong.setdefault(slot_of(one.field), one)
    return [
        *(problem(wrong.get(slot)) for slot in slots),
        gr.Accordion(open=True) if "harness" in wrong else gr.skip(),
        evaluation_card(found),
        copy_as(None if found.problems else found.spec, origin),
        gr.Button(interactive=not found.problems),
        gr.Radio(choices=amount_choices(_times(workbench, job, values)), value=amount_of(values)),
    ]


def _estimate(workbench: Workbench, job: JobView, asked: dict[str, Any]) -> EvaluationEstimate:
    return measuring.estimate_evaluation(workbench, measuring.evaluation_request(job, asked))


def _times(workbench: Workbench, job: JobView, values: tuple[Any, ...]) -> list[str]:
    """How long each choice would take, where that is known."""
    found = []
    for name in AMOUNTS:
        boxes = [own if said is None else said for own, said in zip(values, filled(name), strict=True)]
        seconds = _estimate(workbench, job, asked_of(boxes)).seconds
        found.append(f"about {rough_duration(seconds)}" if seconds else "")
    return found
