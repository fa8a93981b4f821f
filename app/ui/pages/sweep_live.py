# SPDX-License-Identifier: Apache-2.0
"""A sweep as it goes: progress of the whole, results as they land, cancel one or all."""

from typing import Any

import gradio as gr

from app.services import requests, sweeps
from app.services.queue import expected
from app.services.workbench import Workbench
from app.ui.components.actions import acted, acting
from app.ui.components.messages import failure
from app.ui.components.sweeps import sweep_head, sweep_table
from app.ui.events import QUIET, SET_TITLE
from core.errors import WorkbenchError

_SECONDS = 3


def build() -> list[Any]:
    """Lay out head, button and table; returns what `attach` keeps fresh."""
    title = gr.Textbox(visible="hidden")
    head = gr.HTML(elem_id="sweep-head")
    with gr.Row(elem_classes="actions"):
        stop = gr.Button("Cancel all", variant="stop", size="md", elem_id="cancel-all")
    refused = gr.HTML()
    with gr.Column(elem_classes="sheet"):
        table = acting("sweep-table")
    return [head, table, title, stop, gr.Timer(_SECONDS, active=False), refused]


def attach(workbench: Workbench, opened: Any, sweep_id: gr.Textbox, watched: list[Any]) -> None:
    """Show the sweep once the page knows which, then look again until it is over."""
    head, table, title, stop, timer, refused = watched
    shown = [head, table, title, stop, timer]

    def on_look(wanted: str) -> list[Any]:
        return look(workbench, wanted)

    def on_cancel_all(wanted: str) -> list[Any]:
        sweeps.cancel_sweep(workbench, wanted)
        return look(workbench, wanted)

    def on_act(wanted: str, event: gr.EventData) -> list[Any]:
        verb, row = acted(event)
        said = ""
        try:
            if verb == "cancel":
                requests.cancel(workbench, row)
        except WorkbenchError as error:
            said = failure(error)
        return [*look(workbench, wanted), said]

    opened.then(on_look, sweep_id, shown, **QUIET)
    timer.tick(on_look, sweep_id, shown, **QUIET)
    stop.click(on_cancel_all, sweep_id, shown, **QUIET)
    table.click(on_act, sweep_id, [*shown, refused], **QUIET)
    title.change(None, title, None, js=SET_TITLE)


def look(workbench: Workbench, sweep_id: str) -> list[Any]:
    """Everything that moves."""
    if not sweep_id:
        return [gr.skip()] * 5
    try:
        sweep = sweeps.find_sweep(workbench, sweep_id)
    except WorkbenchError as error:
        off = gr.Button(visible=False)
        return [failure(error), "", "no such sweep", off, gr.Timer(active=False)]
    is_over = sweep.ended == len(sweep.jobs)
    return [
        sweep_head(sweep),
        sweep_table(sweep, {} if is_over else expected(workbench)),
        f"{sweep.done}/{len(sweep.jobs)} · sweep",
        gr.Button(visible=not is_over),
        gr.Timer(active=not is_over),
    ]
