# SPDX-License-Identifier: Apache-2.0
"""One job: what it does while it runs, what it made when done. Shows the stored spec, never the form."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from app.services import requests
from app.services.errors import NotFoundError
from app.services.healing_source import job_healed
from app.services.lineage import differs_from
from app.services.queue import expected
from app.services.text_names import friendly
from app.services.workbench import Workbench
from app.ui.components.copying import copy_as
from app.ui.components.joblist import CANCELLABLE, PAUSABLE, clone_address
from app.ui.components.lineage import cloned_from, parent_gone
from app.ui.components.log import LogState, log_view
from app.ui.components.messages import failure
from app.ui.components.progress import job_head, job_title
from app.ui.components.shell import top_bar
from app.ui.components.spec import spec_list
from app.ui.events import GO_TO, QUIET, READ_JOB_ID, SET_TITLE
from app.ui.origin import origin_of
from app.ui.pages import job_push, job_result
from core.errors import WorkbenchError
from core.store.views import FINAL, RESUMABLE, JobView, State, StoredEvent

# how often the page looks while the job moves, and while it rests
_SECONDS, _IDLE_SECONDS = 1.5, 10
# buttons that a failure may offer
RETRIES = 3


def build(workbench: Workbench, page: gr.Blocks) -> None:
    """Lay out the page and attach its handlers."""
    top_bar(workbench, page, "/jobs")
    job_id = gr.Textbox(visible="hidden", elem_id="job-id")
    title, finished = gr.Textbox(visible="hidden"), gr.Textbox(visible="hidden")
    seen = gr.State(LogState())
    head = gr.HTML(elem_id="head")
    with gr.Row(elem_classes="actions"):
        retries = [
            gr.Button(visible=False, size="md", elem_id=f"retry-{number}") for number in range(RETRIES)
        ]
        clone = gr.Button("Clone", size="md", visible=False, elem_id="clone")
        pause = gr.Button("Pause", size="md", visible=False, elem_id="pause")
        cancel = gr.Button("Cancel", variant="stop", size="md", visible=False, elem_id="cancel")
        resume = gr.Button("Resume", variant="primary", size="md", visible=False, elem_id="resume")
    refused = gr.HTML()
    address = gr.Textbox(visible="hidden")
    curve = job_result.build(workbench, job_id, finished)
    job_push.build(workbench, job_id, finished)
    with gr.Column(elem_classes="sheet"):
        gr.HTML("<h2>Log</h2>")
        log = gr.HTML(elem_id="log")
    with gr.Column(elem_classes="sheet"):
        gr.HTML("<h2>What was asked for</h2>")
        spec = gr.HTML(elem_id="spec")
    timer = gr.Timer(_SECONDS)
    live = [head, title, finished, clone, pause, cancel, resume, *retries, timer, seen, log]

    def on_look(wanted: str, state: LogState, request: gr.Request) -> list[Any]:
        pace = workbench.crowd.pace(str(request.session_hash), _SECONDS)
        return _look(workbench, wanted, state, pace)

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

    def on_retry(number: int) -> Callable[[str], tuple[str, str]]:
        def handle(wanted: str) -> tuple[str, str]:
            try:
                job = requests.retry(workbench, wanted, number)
            except WorkbenchError as error:
                return "", failure(error)
            return f"/jobs/{job.id}", ""

        return handle

    page.load(on_open, job_id, [job_id, spec], js=READ_JOB_ID, **QUIET).then(
        on_look, [job_id, seen], live, **QUIET
    )
    timer.tick(on_look, [job_id, seen], live, **QUIET)
    # a job of another kind has no curve, and is asked for it no more
    for event in (job_id.change, timer.tick, finished.change):
        event(curve.look, [job_id, curve.seen], curve.outputs, **QUIET)
    for button, step in ((pause, requests.pause), (cancel, requests.cancel), (resume, requests.resume)):
        button.click(on_step(step), [job_id, seen], [*live, refused], **QUIET)
    for number, button in enumerate(retries):
        button.click(on_retry(number), job_id, [address, refused], **QUIET)
    address.change(None, address, None, js=GO_TO)
    title.change(None, title, None, js=SET_TITLE)


def _look(workbench: Workbench, job_id: str, seen: LogState, pace: float = _SECONDS) -> list[Any]:
    """Everything that moves, in the order of `live`; the page looks again after `pace` seconds."""
    if not job_id:
        return [gr.skip()] * (10 + RETRIES)
    try:
        # however many watch: one of them asks the record, within a second the others see the same
        job = workbench.recent.get(("job", job_id), lambda: requests.find_job(workbench, job_id))
    except NotFoundError as error:
        off = [gr.Button(visible=False)] * (4 + RETRIES)
        return [failure(error), "no such job", "", *off, gr.Timer(active=False), seen, ""]
    now = _caught_up(workbench, job, seen)
    workers = workbench.recent.get("workers", workbench.store.workers)
    rests = job.state in FINAL or job.state is State.PAUSED
    return [
        job_head(job, bool(workers), None if rests else expected(workbench).get(job_id)),
        job_title(job),
        job.state if job.state in FINAL else "",
        gr.Button(visible=bool(clone_address(job)), link=clone_address(job), link_target="_self"),
        gr.Button(visible=job.state in PAUSABLE),
        gr.Button(
            visible=job.state in CANCELLABLE or job.state is State.CANCELLING,
            interactive=job.state is not State.CANCELLING,
        ),
        gr.Button(visible=job.state in RESUMABLE),
        *_retries(job),
        gr.Timer(_IDLE_SECONDS if rests else pace, active=job.state not in FINAL),
        now,
        log_view(now, job_id) if now is not seen or not seen.cursor else gr.skip(),
    ]


def _caught_up(workbench: Workbench, job: JobView, seen: LogState) -> LogState:
    """All that was said by now: the timer of a job that has ended does not tick again."""

    def read() -> list[StoredEvent]:
        return workbench.store.events_after(job.id, seen.cursor)

    # viewers of one job are at the same cursor; what is remembered may be older than the end it was read with
    while events := read() if job.state in FINAL else workbench.recent.get((job.id, seen.cursor), read):
        seen = seen.with_events(events)
    return seen


def _retries(job: JobView) -> list[gr.Button]:
    """A failed job offers what may help, one button each."""
    fixes = job.fixes if job.state is State.FAILED else ()
    offered = [gr.Button(f"Retry with {fix.label}", visible=True) for fix in fixes[:RETRIES]]
    return offered + [gr.Button(visible=False)] * (RETRIES - len(offered))


def _spec_view(workbench: Workbench, job_id: str, origin: str) -> str:
    try:
        job = requests.find_job(workbench, job_id)
    except NotFoundError:
        return ""
    asked = spec_list(friendly(workbench.settings, job.spec))
    return asked + _lineage(workbench, job) + copy_as(job.spec, origin)


def _lineage(workbench: Workbench, job: JobView) -> str:
    if job.parent_id is None or job.parent_id == job_healed(workbench.settings, job.spec):
        return ""
    try:
        return cloned_from(job.parent_id, differs_from(workbench, job.parent_id, job.spec))
    except NotFoundError:
        return parent_gone(job.parent_id)
