# SPDX-License-Identifier: Apache-2.0
"""Compare: finished jobs side by side, what was asked of each and what came of it."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.services.compare import Comparison, comparable_jobs, compare_jobs
from app.services.workbench import Workbench
from app.ui.components import comparison as parts
from app.ui.components.messages import empty, failure
from app.ui.components.plot_box import drawn, plot_box
from app.ui.components.plot_links import plot_links
from app.ui.components.shell import top_bar
from app.ui.events import QUIET
from app.ui.plots.layer_overlay import layer_overlay
from app.ui.strings import CHOOSE_JOBS, NOTHING_TO_COMPARE
from core.errors import WorkbenchError

_READ_JOBS = "() => new URLSearchParams(window.location.search).get('jobs') || ''"
# the address can be sent to somebody else, and a reload shows the same
_KEEP_ADDRESS = (
    "(jobs) => history.replaceState(null, '', jobs.length ? `/compare?jobs=${jobs.join(',')}` : '/compare')"
)
# element, field of the "layers" rows, axis, number format
_PLOTS = (
    ("rank-plot", "cached_numbers", "numbers cached per token", ",.0f"),
    ("key-plot", "key_error", "relative error of keys", ".3f"),
    ("value-plot", "value_error", "relative error of values", ".3f"),
)


def build(workbench: Workbench, page: gr.Blocks) -> None:
    """Lay out the page and attach its handlers."""
    top_bar(workbench, page, "/compare")
    gr.HTML("<h1>Compare</h1>")
    asked = gr.Textbox(visible="hidden")
    with gr.Column(elem_classes="sheet"):
        choice = gr.CheckboxGroup([], label="Finished jobs, up to 6", elem_id="choice")
        note = gr.HTML(elem_id="choice-note")
    with gr.Column(visible=False, elem_id="comparison") as whole:
        with gr.Column(elem_classes="sheet"):
            legend = gr.HTML(elem_id="legend")
            gr.HTML("<h2>What came of it</h2>")
            metrics = gr.HTML(elem_id="metrics")
        with gr.Column(elem_classes="sheet"):
            gr.HTML("<h2>What was asked differently</h2>")
            specs = gr.HTML(elem_id="specs")
        with gr.Column(elem_classes="sheet"):
            gr.HTML("<h2>Layer by layer</h2>")
            with gr.Row():
                plots = [_plot_box(name) for name, *_ in _PLOTS]
        with gr.Column(elem_classes="sheet"):
            gr.HTML("<h2>The same words, continued</h2>")
            samples = gr.HTML(elem_id="samples")
    flat = [component for pair in plots for component in pair]
    shown = [note, whole, legend, metrics, specs, samples, *flat]

    def on_open(jobs: str) -> Any:
        finished = comparable_jobs(workbench)
        wanted = [one for one in jobs.split(",") if one in {job.id for job in finished}]
        options = [(parts.label_of(job), job.id) for job in finished]
        return gr.CheckboxGroup(choices=options, value=wanted, visible=bool(finished))

    def on_choose(jobs: list[str]) -> list[Any]:
        return _compared(workbench, jobs)

    page.load(on_open, asked, choice, js=_READ_JOBS, **QUIET).then(on_choose, choice, shown, **QUIET)
    choice.input(on_choose, choice, shown, **QUIET)
    choice.input(None, choice, None, js=_KEEP_ADDRESS)


def _plot_box(name: str) -> tuple[gr.Plot, gr.HTML]:
    with gr.Column(min_width=280):
        return plot_box(name), gr.HTML()


def _compared(workbench: Workbench, jobs: Sequence[str]) -> list[Any]:
    """Everything below the choice, in the order of `shown`."""
    nothing = [gr.Column(visible=False), *[gr.skip()] * (4 + 2 * len(_PLOTS))]
    if not jobs:
        words = CHOOSE_JOBS if comparable_jobs(workbench, 1) else NOTHING_TO_COMPARE
        return [empty(words), *nothing]
    try:
        found = compare_jobs(workbench, jobs)
    except WorkbenchError as error:
        return [failure(error), *nothing]
    tables = [parts.legend(found), parts.metric_table(found), parts.spec_table(found), parts.samples(found)]
    return ["", gr.Column(visible=True), *tables, *_plots(found)]


def _plots(found: Comparison) -> list[Any]:
    named = {parts.LETTERS[index]: rows for index, rows in enumerate(found.layers)}
    query = {"jobs": ",".join(job.id for job in found.jobs)}
    shown: list[Any] = []
    for plot, field, title, digits in _PLOTS:
        shown += [
            drawn(layer_overlay(named, field, title, digits)),
            plot_links(plot, title, "/api/v1/compare/figures/layers", query),
        ]
    return shown
