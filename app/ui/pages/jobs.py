# SPDX-License-Identifier: Apache-2.0
"""Jobs: every job with its state and key figures; when there is none, the demo in one click."""

from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from app.services import requests
from app.services.disk import disk_use
from app.services.profiles import delete_profile
from app.services.queue import expected
from app.services.upload_list import remove
from app.services.workbench import Workbench
from app.ui.components.actions import acted, acting
from app.ui.components.diskuse import disk_card
from app.ui.components.joblist import job_table
from app.ui.components.messages import empty, failure
from app.ui.components.shell import top_bar
from app.ui.events import GO_TO, LATEST, QUIET
from app.ui.form import Form, initial
from app.ui.strings import NO_JOBS, STATE_WORDS
from core.errors import WorkbenchError
from core.store.views import ACTIVE, FINAL, JobView, State

# how often the list is read while something moves, and while nothing does
_SECONDS, _IDLE_SECONDS = 3, 12
_PAGE = 100
_FILTERS: dict[str, frozenset[State] | None] = {
    "all": None,
    "active": ACTIVE | {State.QUEUED, State.INTERRUPTED},
    **{
        STATE_WORDS[one]: frozenset({one})
        for one in (State.PAUSED, State.DONE, State.FAILED, State.CANCELLED)
    },
}
VERBS: Mapping[str, Callable[[Workbench, str], object]] = {
    "pause": requests.pause,
    "resume": requests.resume,
    "cancel": requests.cancel,
    "delete": requests.delete,
    "delete-profile": delete_profile,
    "delete-text": remove,
}


def build(workbench: Workbench, page: gr.Blocks) -> None:
    """Lay out the page and attach its handlers."""
    top_bar(workbench, page, "/jobs")
    gr.HTML('<div class="pagehead"><h1>Jobs</h1><a class="button" href="/sweep">New sweep</a></div>')
    with gr.Column(visible=False, elem_classes="sheet") as nothing:
        gr.HTML(empty(NO_JOBS))
        start = gr.Button("Convert the demo model", variant="primary", elem_id="start-demo")
        refused = gr.HTML()
    with gr.Column(visible=False, elem_classes="sheet") as something:
        with gr.Row():
            text = _search_box()
            state = gr.Radio(list(_FILTERS), value="all", show_label=False, container=False, scale=4)
        wrong = gr.HTML()
        table = acting("jobs")
    with gr.Column(elem_classes="sheet"):
        gr.HTML("<h2>Disk</h2>")
        disk = acting("disk")
    address, seen, timer = gr.Textbox(visible="hidden"), gr.State(()), gr.Timer(_SECONDS)
    shown = [nothing, something, table, disk, timer, seen]

    def on_look(wanted: str, word: str | None, known: tuple[str, ...], request: gr.Request) -> list[Any]:
        pace = workbench.crowd.pace(str(request.session_hash), _SECONDS)
        return look(workbench, wanted, (word or "").strip(), known, pace)

    def on_act(wanted: str, word: str | None, event: gr.EventData) -> list[Any]:
        verb, row = acted(event)
        said = ""
        try:
            if verb in VERBS:
                VERBS[verb](workbench, row)
        except WorkbenchError as error:
            said = failure(error)
        return [*look(workbench, wanted, (word or "").strip(), ()), said]

    def on_start() -> tuple[str, str]:
        try:
            job = requests.submit(workbench, Form(initial()).request)
        except WorkbenchError as error:
            return "", failure(error)
        return f"/jobs/{job.id}", ""

    asked = [state, text, seen]
    page.load(on_look, asked, shown, **QUIET)
    timer.tick(on_look, asked, shown, **QUIET)
    gr.on([state.input, text.input], on_look, asked, shown, **LATEST)
    gr.on([table.click, disk.click], on_act, [state, text], [*shown, wrong], **QUIET)
    start.click(on_start, None, [address, refused], **QUIET)
    address.change(None, address, None, js=GO_TO)


def look(
    workbench: Workbench, wanted: str, word: str, known: tuple[str, ...], pace: float = _SECONDS
) -> list[Any]:
    """What the page shows now; what it shows already is left alone, so that nothing flickers."""
    jobs, total, any_jobs = workbench.recent.get(
        ("jobs", wanted, word), lambda: _read(workbench, _FILTERS[wanted], word)
    )
    # a job that has ended holds something else than a moment ago
    use = disk_use(workbench, frozenset((job.id, job.state) for job in jobs))
    moves = any(job.state not in FINAL and job.state is not State.PAUSED for job in jobs)
    table = job_table(jobs, total, expected(workbench) if moves else {}, use.jobs)
    now = (str(any_jobs), table, disk_card(use))
    old = known if len(known) == len(now) else ("",) * len(now)
    changed = [new if new != before else gr.skip() for new, before in zip(now[1:], old[1:], strict=True)]
    frames = [gr.Column(visible=not any_jobs), gr.Column(visible=any_jobs)]
    same = now[0] == old[0]
    return [
        *([gr.skip(), gr.skip()] if same else frames),
        *changed,
        gr.Timer(pace if moves else _IDLE_SECONDS),
        gr.skip() if now == old else now,
    ]


def _read(
    workbench: Workbench, states: frozenset[State] | None, word: str
) -> tuple[list[JobView], int, bool]:
    jobs = workbench.store.list(states=states, text=word, limit=_PAGE)
    total = workbench.store.count(states=states, text=word) if len(jobs) == _PAGE else len(jobs)
    return jobs, total, bool(jobs) or workbench.store.count() > 0


def _search_box() -> gr.Textbox:
    return gr.Textbox(
        placeholder="model, preset or id",
        label="Find a job",
        show_label=False,
        container=False,
        scale=3,
        min_width=200,
        elem_id="filter",
    )
