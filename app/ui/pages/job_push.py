# SPDX-License-Identifier: Apache-2.0
"""Push to the Hub, on the page of a finished conversion. The token leaves its box with the press."""

from typing import Any

import gradio as gr

from app.services.pushes import start_push
from app.services.workbench import Workbench
from app.ui.components.messages import failure
from app.ui.components.pushing import push_state
from app.ui.events import QUIET
from core.errors import WorkbenchError
from core.store.views import State

_SECONDS = 1.0
_CAPTION = (
    '<p class="caption">Files that are on the Hub already are not sent again: after an interruption, push '
    "once more. The token is used for this push and stored nowhere.</p>"
)


def build(workbench: Workbench, job_id: gr.Textbox, finished: gr.Textbox) -> None:
    """Lay it out; it shows itself when `finished` says that the job is done."""
    with gr.Column(visible=False, elem_classes="sheet", elem_id="push") as whole:
        gr.HTML("<h2>Push to the Hub</h2>" + _CAPTION)
        with gr.Row():
            repo = gr.Textbox(label="Repository", placeholder="owner/name", max_lines=1, elem_id="push-repo")
            token = gr.Textbox(
                label="Access token",
                type="password",
                placeholder="hf_…",
                max_lines=1,
                html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
                elem_id="push-token",
            )
        private = gr.Checkbox(True, label="private, when the repository is made")
        start = gr.Button("Push", size="md", elem_id="push-start")
        shown = gr.HTML(elem_id="push-state")
    timer = gr.Timer(_SECONDS, active=False)

    def on_finished(state: str, wanted: str) -> list[Any]:
        job_is_done = state == State.DONE and workbench.store.get(wanted).spec.makes_model
        return [gr.Column(visible=job_is_done), *look(workbench, wanted)]

    def on_push(wanted: str, name: str, secret: str, is_private: bool) -> list[Any]:
        try:
            start_push(workbench, wanted, name or "", secret or "", private=is_private)
        except WorkbenchError as error:
            return ["", failure(error), gr.skip(), gr.skip()]
        return ["", *look(workbench, wanted)]

    def on_look(wanted: str) -> list[Any]:
        return look(workbench, wanted)

    finished.change(on_finished, [finished, job_id], [whole, shown, start, timer], **QUIET)
    start.click(on_push, [job_id, repo, token, private], [token, shown, start, timer], **QUIET)
    timer.tick(on_look, job_id, [shown, start, timer], **QUIET)


def look(workbench: Workbench, job_id: str) -> list[Any]:
    """Progress, whether the button may be pressed, and whether to look again."""
    state = workbench.pushes.state_of(job_id)
    is_running = state is not None and state.state == "running"
    return [push_state(state), gr.Button(interactive=not is_running), gr.Timer(active=is_running)]
