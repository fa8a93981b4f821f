# SPDX-License-Identifier: Apache-2.0
"""Jobs: every conversion with its state and key figures; when there is none, the demo in one click."""

from typing import Any

import gradio as gr

from app.services import requests
from app.services.workbench import Workbench
from app.ui.components.joblist import job_table
from app.ui.components.messages import empty, failure
from app.ui.components.shell import top_bar
from app.ui.events import GO_TO, LATEST, QUIET
from app.ui.form import Form, initial
from app.ui.strings import NO_JOBS, STATE_WORDS
from core.errors import WorkbenchError
from core.store.views import ACTIVE, State

_SECONDS = 3
_PAGE = 100
_FILTERS: dict[str, frozenset[State] | None] = {
    "all": None,
    "active": ACTIVE | {State.QUEUED, State.INTERRUPTED},
    **{STATE_WORDS[state]: frozenset({state}) for state in (State.DONE, State.FAILED, State.CANCELLED)},
}


def build(workbench: Workbench, page: gr.Blocks) -> None:
    """Lay out the page and attach its handlers."""
    top_bar(workbench, page, "/jobs")
    gr.HTML("<h2>Jobs</h2>")
    with gr.Column(visible=False, elem_classes="sheet") as nothing:
        gr.HTML(empty(NO_JOBS))
        start = gr.Button("Convert the demo model", variant="primary", elem_id="start-demo")
        refused = gr.HTML()
    with gr.Column(visible=False, elem_classes="sheet") as something:
        with gr.Row():
            text = gr.Textbox(
                placeholder="model, preset or id",
                show_label=False,
                container=False,
                scale=3,
                min_width=200,
                elem_id="filter",
            )
            state = gr.Radio(list(_FILTERS), value="all", show_label=False, container=False, scale=4)
        table = gr.HTML(elem_id="jobs")
    address = gr.Textbox(visible="hidden")
    shown = [nothing, something, table]

    def on_look(wanted: str, word: str | None) -> list[Any]:
        store, states, part = workbench.store, _FILTERS[wanted], (word or "").strip()
        has_jobs = store.count() > 0
        jobs = store.list(states=states, text=part, limit=_PAGE)
        view = job_table(jobs, store.count(states=states, text=part))
        return [gr.Column(visible=not has_jobs), gr.Column(visible=has_jobs), view]

    def on_start() -> tuple[str, str]:
        try:
            job = requests.submit(workbench, Form(initial()).request)
        except WorkbenchError as error:
            return "", failure(error)
        return f"/jobs/{job.id}", ""

    page.load(on_look, [state, text], shown, **QUIET)
    gr.Timer(_SECONDS).tick(on_look, [state, text], shown, **QUIET)
    gr.on([state.input, text.input], on_look, [state, text], shown, **LATEST)
    start.click(on_start, None, [address, refused], **QUIET)
    address.change(None, address, None, js=GO_TO)
