# SPDX-License-Identifier: Apache-2.0
"""The part of a job's page that appears when the job is done: verdict, plots, tables, downloads."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr

from app.services.downloads import files_of
from app.services.errors import NotFoundError
from app.services.evaluations import measured_rows
from app.services.healing_source import job_healed
from app.services.requests import find_job
from app.services.workbench import Workbench
from app.ui.components import results
from app.ui.components.healing_result import healing_summary
from app.ui.components.measured import (
    evaluation_downloads,
    evaluation_summary,
    evaluation_tables,
    measured_table,
)
from app.ui.components.next_steps import next_steps
from app.ui.components.profile_result import profile_downloads, profile_summary
from app.ui.events import QUIET
from app.ui.pages import job_figures, job_healing
from app.ui.pages.job_healing import CurveView
from core.store.views import JobView, State, StoredArtefact

# sheets that only a conversion fills
_OF_THE_CUT = 4
_SUMMARIES: Mapping[str, Callable[[results.Metrics], str]] = {
    "convert": results.summary,
    "profile": profile_summary,
    "heal": healing_summary,
}
_DOWNLOADS: Mapping[str, Callable[[str, Sequence[StoredArtefact]], str]] = {
    "convert": results.downloads,
    "profile": profile_downloads,
    "heal": results.downloads,
    "evaluate": evaluation_downloads,
}


def build(workbench: Workbench, job_id: gr.Textbox, finished: gr.Textbox) -> CurveView:
    """Lay out the result; it fills itself when `finished` says that the job is done.

    Returns the curve of a healing, which has its place here and grows before there is a result.
    """
    plots = job_figures.JobFigures()
    with gr.Column(visible=False) as said:
        summary = gr.HTML(elem_id="summary")
        steps = gr.HTML(elem_id="next-steps")
    curve = job_healing.build(workbench)
    with gr.Column(visible=False, elem_id="result") as whole:
        with gr.Column(elem_classes="sheet"):
            gr.HTML("<h2>Download</h2>")
            files = gr.HTML(elem_id="downloads")
        with gr.Column(elem_classes="sheet", visible=False) as further:
            gr.HTML("<h2>Measured further</h2>")
            tables = gr.HTML(elem_id="evaluation")
        with gr.Column() as conversion:
            with gr.Row(equal_height=True):
                with _sheet() as rope:
                    plots.rope()
                with _sheet():
                    plots.memory()
                    agreement = gr.HTML(elem_id="kv-table")
            with _sheet() as widths:
                plots.widths()
            with gr.Row(equal_height=True):
                with _sheet():
                    gr.HTML("<h2>Quality</h2>")
                    quality = gr.HTML(elem_id="quality")
                with _sheet() as errors:
                    plots.errors()
            with _sheet() as every:
                gr.HTML("<h2>Every layer</h2>")
                layers = gr.HTML(elem_id="layers")
    # what only the job knows that cut the layers
    cut = [rope, widths, errors, every]
    shown = [said, whole, conversion, *cut, summary, steps, files, agreement, quality, layers]
    shown += [further, tables, *plots.shown]

    def on_finished(state: str, wanted: str) -> list[Any]:
        if state != State.DONE:
            return [*[gr.Column(visible=False)] * 2, *[gr.skip()] * (len(shown) - 2)]
        return [*[gr.Column(visible=True)] * 2, *_fill(workbench, wanted)]

    finished.change(on_finished, [finished, job_id], shown, **QUIET)
    plots.attach(workbench, job_id)
    return curve


def _healed(workbench: Workbench, job: JobView) -> str | None:
    """The job whose result this one healed, while it is there."""
    healed = job_healed(workbench.settings, job.spec)
    try:
        return find_job(workbench, healed).id if healed else None
    except NotFoundError:
        return None


def _measured(workbench: Workbench, job: JobView, report: Mapping[str, Any]) -> str:
    """What an evaluation found; on a conversion's page, what evaluations found of it."""
    if job.spec.kind == "evaluate":
        return evaluation_tables(report)
    return measured_table(measured_rows(workbench, [job.id]), {"this one": "this one"})


def _sheet() -> gr.Column:
    return gr.Column(elem_classes="sheet", scale=1, min_width=320)


def _fill(workbench: Workbench, job_id: str) -> list[Any]:
    metrics, job = results.by_name(workbench.store.metrics(job_id)), find_job(workbench, job_id)
    kind, files = job.spec.kind, files_of(workbench, job_id)
    figures = workbench.store.figures(job_id)
    report = figures.get("evaluation", {})
    measured = _measured(workbench, job, report)
    rows: Any = figures.get("layers", {}).get("rows", [])
    return [
        gr.Column(visible=kind in ("convert", "heal")),
        *[gr.Column(visible=kind == "convert")] * _OF_THE_CUT,
        evaluation_summary(report) if kind == "evaluate" else _SUMMARIES[kind](metrics),
        next_steps(job, _healed(workbench, job)),
        _DOWNLOADS[kind](job_id, files),
        results.memory_table(metrics),
        results.quality_table(metrics, "healed" if kind == "heal" else "converted"),
        results.layer_table(rows),
        gr.Column(visible=bool(measured)),
        measured,
        *job_figures.fill(job_id, figures, metrics),
    ]
