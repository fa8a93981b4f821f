# SPDX-License-Identifier: Apache-2.0
"""The part of a job's page that appears when the job is done: verdict, plots, tables, downloads."""

from typing import Any

import gradio as gr

from app.services.requests import find_job
from app.services.workbench import Workbench
from app.ui.components import results
from app.ui.components.next_steps import next_steps
from app.ui.components.profile_result import profile_downloads, profile_summary
from app.ui.events import QUIET
from app.ui.pages import job_figures
from core.store.views import State


def build(workbench: Workbench, job_id: gr.Textbox, finished: gr.Textbox) -> None:
    """Lay out the result; it fills itself when `finished` says that the job is done."""
    plots = job_figures.JobFigures()
    with gr.Column(visible=False, elem_id="result") as whole:
        summary = gr.HTML(elem_id="summary")
        steps = gr.HTML(elem_id="next-steps")
        with gr.Column(elem_classes="sheet"):
            gr.HTML("<h2>Download</h2>")
            files = gr.HTML(elem_id="downloads")
        with gr.Column() as conversion:
            with gr.Row(equal_height=True):
                with _sheet():
                    plots.rope()
                with _sheet():
                    plots.memory()
                    agreement = gr.HTML(elem_id="kv-table")
            with _sheet():
                plots.widths()
            with gr.Row(equal_height=True):
                with _sheet():
                    gr.HTML("<h2>Quality</h2>")
                    quality = gr.HTML(elem_id="quality")
                with _sheet():
                    plots.errors()
            with _sheet():
                gr.HTML("<h2>Every layer</h2>")
                layers = gr.HTML(elem_id="layers")
    shown = [whole, conversion, summary, steps, files, agreement, quality, layers, *plots.shown]

    def on_finished(state: str, wanted: str) -> list[Any]:
        if state != State.DONE:
            return [gr.Column(visible=False), *[gr.skip()] * (len(shown) - 1)]
        return [gr.Column(visible=True), *_fill(workbench, wanted)]

    finished.change(on_finished, [finished, job_id], shown, **QUIET)
    plots.attach(workbench, job_id)


def _sheet() -> gr.Column:
    return gr.Column(elem_classes="sheet", scale=1, min_width=320)


def _fill(workbench: Workbench, job_id: str) -> list[Any]:
    metrics, job = results.by_name(workbench.store.metrics(job_id)), find_job(workbench, job_id)
    is_profile, files = job.spec.kind == "profile", workbench.store.artefacts(job_id)
    figures = workbench.store.figures(job_id)
    rows: Any = figures.get("layers", {}).get("rows", [])
    return [
        gr.Column(visible=not is_profile),
        profile_summary(metrics) if is_profile else results.summary(metrics),
        next_steps(job),
        profile_downloads(job_id, files) if is_profile else results.downloads(job_id, files),
        results.memory_table(metrics),
        results.quality_table(metrics),
        results.layer_table(rows),
        *job_figures.fill(job_id, figures, metrics),
    ]
