# SPDX-License-Identifier: Apache-2.0
"""The plots of a finished job: where each stands, what it is drawn from, and how it is taken away."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from app.services.workbench import Workbench
from app.ui.components import results
from app.ui.components.plot_box import drawn, plot_box
from app.ui.components.plot_links import plot_links
from app.ui.events import QUIET
from app.ui.plots.kv_memory import kv_memory
from app.ui.plots.layer_errors import layer_errors
from app.ui.plots.layer_widths import layer_widths
from app.ui.plots.rope_by_head import rope_by_head
from app.ui.plots.rope_contribution import rope_contribution
from app.ui.plots.rope_meaning import meaning_of
from app.ui.strings import NO_PAIRS

_BATCHES = (1, 8, 32, 128)
_SUMMED, _BESIDE = "summed", "side by side"

Figures = Mapping[str, Mapping[str, Any]]


class JobFigures:
    """Lay out the boxes where the page wants them, then `attach`; `shown` are those that `fill` is for."""

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def rope(self) -> None:
        """The heatmap of rotary pairs, with a choice of heads."""
        gr.HTML("<h2>RoPE contribution</h2>")
        caption = gr.HTML(elem_id="rope-caption")
        self._head = gr.Radio([_SUMMED], value=_SUMMED, label="KV head", elem_id="rope-head")
        self._rope = plot_box("rope-plot")
        self.shown += [caption, self._head, self._rope, gr.HTML()]

    def memory(self) -> None:
        """Cache against context, with a choice of sequences."""
        gr.HTML("<h2>KV memory against context</h2>" + _MEMORY_CAPTION)
        self._batch = gr.Radio(_BATCHES, value=1, label="Sequences", elem_id="kv-batch")
        self._memory = plot_box("kv-plot")
        self.shown += [self._memory, gr.HTML()]

    def widths(self) -> None:
        """Numbers cached per layer, before and after."""
        gr.HTML("<h2>Cache per layer, before and after</h2>" + _WIDTHS_CAPTION)
        self.shown += [plot_box("width-plot"), gr.HTML()]

    def errors(self) -> None:
        """Error of keys and values per layer."""
        gr.HTML("<h2>Error per layer</h2>" + _LAYER_CAPTION)
        self.shown += [plot_box("layer-plot"), gr.HTML()]

    def attach(self, workbench: Workbench, job_id: gr.Textbox) -> None:
        """The handlers of the two choices."""

        def on_head(name: str, wanted: str) -> Any:
            return _rope_plot(workbench.store.figures(wanted), name)

        def on_batch(size: int, wanted: str) -> Any:
            return _memory_plot(results.by_name(workbench.store.metrics(wanted)), size)

        self._head.input(on_head, [self._head, job_id], self._rope, **QUIET)
        self._batch.input(on_batch, [self._batch, job_id], self._memory, **QUIET)


def fill(job_id: str, figures: Figures, metrics: results.Metrics) -> list[Any]:
    """Values for `shown` of a JobFigures that was laid out as rope, memory, widths, errors."""
    data, rows = figures.get("rope_contribution"), figures.get("layers", {}).get("rows")
    memory = _memory_plot(metrics, 1)
    # a job that has described its layers has no more to say of pairs
    words = meaning_of(data).caption if data else NO_PAIRS if rows else ""
    return [
        f'<p class="caption">{words}</p>' if words else "",
        _head_choice(figures),
        drawn(_rope_plot(figures, _SUMMED)),
        _links(job_id, "rope-plot", "RoPE contribution", "rope_contribution") if data else "",
        drawn(memory),
        _links(job_id, "kv-plot", "KV memory", "kv_memory") if memory else "",
        drawn(layer_widths(rows) if rows else None),
        _links(job_id, "width-plot", "cache per layer", "layers") if rows else "",
        drawn(layer_errors(rows) if rows else None),
        _links(job_id, "layer-plot", "error per layer", "layers") if rows else "",
    ]


def _links(job_id: str, plot: str, title: str, name: str) -> str:
    return plot_links(plot, title, f"/api/v1/jobs/{job_id}/figures/{name}")


def _head_choice(figures: Figures) -> gr.Radio:
    scores = figures.get("rope_contribution", {}).get("scores") or [[]]
    heads = [(str(index), str(index)) for index in range(len(scores[0]))]
    label = meaning_of(figures.get("rope_contribution", {})).row
    choices = [(_SUMMED, _SUMMED), (_BESIDE, _BESIDE), *heads]
    return gr.Radio(choices, value=_SUMMED, visible=len(heads) > 1, label=label)


def _rope_plot(figures: Figures, head: str) -> Any:
    data = figures.get("rope_contribution")
    if not data:
        return None
    if head == _BESIDE:
        return rope_by_head(data)
    return rope_contribution(data, None if head == _SUMMED else int(head))


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
_WIDTHS_CAPTION = (
    '<p class="caption">Numbers a layer keeps of every token. Where the budget is spread, layers that '
    "matter more get more.</p>"
)
_LAYER_CAPTION = (
    '<p class="caption">How far the keys in each layer\'s latent and its values are off after the rank cut, '
    "measured on the calibration text.</p>"
)
