# SPDX-License-Identifier: Apache-2.0
"""The part of a job's page that appears when the job is done: verdict, plots, tables, downloads."""

from typing import Any

import gradio as gr

from app.services.workbench import Workbench
from app.ui.components import results
from app.ui.events import QUIET
from app.ui.plots.kv_memory import kv_memory
from app.ui.plots.layer_errors import layer_errors
from app.ui.plots.rope_contribution import rope_contribution
from app.ui.plots.rope_meaning import meaning_of
from core.store.views import State

_BATCHES = (1, 8, 32, 128)
_SUMMED = "summed"


def build(workbench: Workbench, job_id: gr.Textbox, finished: gr.Textbox) -> None:
    """Lay out the result; it fills itself when `finished` says that the job is done."""
    with gr.Column(visible=False, elem_id="result") as whole:
        summary = gr.HTML(elem_id="summary")
        with gr.Column(elem_classes="sheet"):
            gr.HTML("<h3>Download</h3>")
            files = gr.HTML(elem_id="downloads")
        with gr.Row(equal_height=True):
            with gr.Column(elem_classes="sheet", scale=1, min_width=320):
                gr.HTML("<h3>RoPE contribution</h3>")
                rope_caption = gr.HTML(elem_id="rope-caption")
                head = gr.Radio([_SUMMED], value=_SUMMED, label="KV head", elem_id="rope-head")
                rope = gr.Plot(show_label=False, elem_id="rope-plot")
            with gr.Column(elem_classes="sheet", scale=1, min_width=320):
                gr.HTML("<h3>KV memory against context</h3>" + _MEMORY_CAPTION)
                batch = gr.Radio(_BATCHES, value=1, label="Sequences", elem_id="kv-batch")
                memory = gr.Plot(show_label=False, elem_id="kv-plot")
                agreement = gr.HTML(elem_id="kv-table")
        with gr.Row(equal_height=True):
            with gr.Column(elem_classes="sheet", scale=1, min_width=320):
                gr.HTML("<h3>Quality</h3>")
                quality = gr.HTML(elem_id="quality")
            with gr.Column(elem_classes="sheet", scale=1, min_width=320):
                gr.HTML("<h3>Error per layer</h3>" + _LAYER_CAPTION)
                errors = gr.Plot(show_label=False, elem_id="layer-plot")
        with gr.Column(elem_classes="sheet"):
            gr.HTML("<h3>Every layer</h3>")
            layers = gr.HTML(elem_id="layers")

    def on_finished(state: str, wanted: str) -> list[Any]:
        if state != State.DONE:
            return [gr.Column(visible=False), *[gr.skip()] * 10]
        return [gr.Column(visible=True), *_fill(workbench, wanted)]

    def on_head(name: str, wanted: str) -> Any:
        return _rope_plot(workbench.store.figures(wanted), name)

    def on_batch(size: int, wanted: str) -> Any:
        return _memory_plot(results.by_name(workbench.store.metrics(wanted)), size)

    shown = [whole, summary, files, rope_caption, head, rope, memory, agreement, quality, errors, layers]
    finished.change(on_finished, [finished, job_id], shown, **QUIET)
    head.input(on_head, [head, job_id], rope, **QUIET)
    batch.input(on_batch, [batch, job_id], memory, **QUIET)


def _fill(workbench: Workbench, job_id: str) -> list[Any]:
    metrics = results.by_name(workbench.store.metrics(job_id))
    figures = workbench.store.figures(job_id)
    rows: Any = figures.get("layers", {}).get("rows", [])
    return [
        results.summary(metrics),
        results.downloads(job_id, workbench.store.artefacts(job_id)),
        _rope_caption(figures),
        _head_choice(figures),
        _rope_plot(figures, _SUMMED),
        _memory_plot(metrics, 1),
        results.memory_table(metrics),
        results.quality_table(metrics),
        layer_errors(rows) if rows else None,
        results.layer_table(rows),
    ]


def _head_choice(figures: dict[str, dict[str, Any]]) -> gr.Radio:
    scores = figures.get("rope_contribution", {}).get("scores") or [[]]
    heads = [(str(index), str(index)) for index in range(len(scores[0]))]
    label = meaning_of(figures.get("rope_contribution", {})).row
    return gr.Radio([(_SUMMED, _SUMMED), *heads], value=_SUMMED, visible=len(heads) > 1, label=label)


def _rope_caption(figures: dict[str, dict[str, Any]]) -> str:
    data = figures.get("rope_contribution")
    return f'<p class="caption">{meaning_of(data).caption}</p>' if data else ""


def _rope_plot(figures: dict[str, dict[str, Any]], head: str) -> Any:
    data = figures.get("rope_contribution")
    return rope_contribution(data, None if head == _SUMMED else int(head)) if data else None


def _memory_plot(metrics: results.Metrics, batch: int) -> Any:
    before, after = (
        metrics.get("kv_bytes_per_token_before"),
        metrics.get("kv_bytes_per_token_measured") or metrics.get("kv_bytes_per_token_formula"),
    )
    return kv_memory(before.value, after.value, batch) if before and after else None


_MEMORY_CAPTION = (
    '<p class="caption">What a filled cache takes, beside the memory of common GPUs. '
    "The weights need their own room.</p>"
)
_LAYER_CAPTION = (
    '<p class="caption">How far the keys in each layer\'s latent and its values are off after the rank cut, '
    "measured on the calibration text.</p>"
)
