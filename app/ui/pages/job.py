# SPDX-License-Identifier: Apache-2.0
"""One job: what it does while it runs, what it made when done. Shows the stored spec, never the form."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from app.services import requests
from app.services.errors import NotFoundError
from app.services.workbench import Workbench
from app.ui.components.copying import copy_as
from app.ui.components.log import LogState, log_view
from app.ui.components.messages import failure
from app.ui.components.progress import job_head, job_title
from app.ui.components.shell import top_bar
from app.ui.components.spec import spec_list
from app.ui.events import QUIET, READ_JOB_ID, SET_TITLE
from app.ui.origin import origin_of
from app.ui.pages import job_result
from core.errors import WorkbenchError
from core.store.views import ACTIVE, FINAL, RESUMABLE, JobView, State

_SECONDS = 1.5


def build(workbench: Workbench, page: gr.Blocks) -> None:
    """Lay out the page and attach its handlers."""
    top_bar(workbench, page, "/jobs")
    job_id = gr.Textbox(visible="hidden", elem_id="job-id")
    title, finished = gr.Textbox(visible="hidden"), gr.Textbox(visible="hidden")
    seen = gr.State(LogState())
    head = gr.HTML(elem_id="head")
    with gr.Row(elem_classes="actions"):
        cancel = gr.Button("Cancel", variant="stop", size="md", visible=False, elem_id="cancel")
        resume = gr.Button("Resume", variant="primary", size="md", visible=False, elem_id="resume")
    refused = gr.HTML()
    job_result.build(workbench, job_id, finished)
    with gr.Column(elem_classes="sheet"):
        gr.HTML("<h3>Log</h3>")
        log = gr.HTML(elem_id="log")
    with gr.Column(elem_classes="sheet"):
        gr.HTML("<h3>What was asked for</h3>")
        spec = gr.HTML(elem_id="spec")
    timer = gr.Timer(_SECONDS)
    live = [head, title, finished, cancel, resume, timer, seen, log]

    def on_look(wanted: str, state: LogState) -> list[Any]:
        return _look(workbench, wanted, state)

    def on_open(wanted: str, request: gr.Request) -> tuple[str, str]:
        return wanted, _spec_view(workbench, wanted, origin_of(request))

    def on_step(step: Callable[[Workbench, str], JobView]) -> Callable[..., list[Any]]:
        def handle(wanted: str, state: LogState) -> list[Any]:
            try:
                step(workbench, wanted)
            except WorkbenchError as error:
                return [*_look(workbench, wanted, state), failure(error)]
            return [*_look(workbench, wanted, state), ""]

        return handle

    page.load(on_open, job_id, [job_id, spec], js=READ_JOB_ID, **QUIET).then(
        on_look, [job_id, seen], live, **QUIET
    )
    timer.tick(on_look, [job_id, seen], live, **QUIET)
    cancel.click(on_step(requests.cancel), [job_id, seen], [*live, refused], **QUIET)
    resume.click(on_step(requests.resume), [job_id, seen], [*live, refused], **QUIET)
    title.change(None, title, None, js=SET_TITLE)


def _look(workbench: Workbench, job_id: str, seen: LogState) -> list[Any]:
    """Everything that moves, in the order of `live`."""
    if not job_id:
        return [gr.skip()] * 8
    try:
        job = requests.find_job(workbench, job_id)
    except NotFoundError as error:
        off = gr.Button(visible=False)
        return [failure(error), "no such job", "", off, off, gr.Timer(active=False), seen, ""]
    now = _caught_up(workbench, job_id, seen)
    return [
        job_head(job, bool(workbench.store.workers())),
        job_title(job),
        job.state if job.state in FINAL else "",
        gr.Button(visible=_can_cancel(job), interactive=job.state is not State.CANCELLING),
        gr.Button(visible=job.state in RESUMABLE),
        gr.Timer(active=job.state not in FINAL),
        now,
        log_view(now, job_id) if now is not seen or not seen.cursor else gr.skip(),
    ]


def _caught_up(workbench: Workbench, job_id: str, seen: LogState) -> LogState:
    """All that was said by now: the timer of a job that has ended does not tick again."""
    while events := workbench.store.events_after(job_id, seen.cursor):
        seen = seen.with_events(events)
    return seen


def _can_cancel(job: JobView) -> bool:
    return job.state in ACTIVE or job.state in (State.QUEUED, State.INTERRUPTED)


def _spec_view(workbench: Workbench, job_id: str, origin: str) -> str:
    try:
        spec = requests.find_job(workbench, job_id).spec
    except NotFoundError:
        return ""
    return spec_list(spec) + copy_as(spec, origin)
