# SPDX-License-Identifier: Apache-2.0
"""Models: which there are; for one of them what it is, what its cache costs, and what was made of it."""

from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from app.services.known_models import jobs_of, known_models, model_facts
from app.services.pareto import pareto_points
from app.services.workbench import Workbench
from app.ui.components import model as parts
from app.ui.components.messages import empty, failure
from app.ui.components.plot_box import plot_box
from app.ui.components.shell import top_bar
from app.ui.events import QUIET
from app.ui.pages import model_figures, model_profile
from app.ui.strings import NO_JOBS_OF_MODEL, NO_POINTS
from core.errors import WorkbenchError
from core.facts import ModelFacts
from core.presets import DEFAULT_PRESET

_READ_MODEL = "() => new URLSearchParams(window.location.search).get('model') || ''"
_OPEN = "(model) => { if (model.trim()) location.href = `/models?model=${encodeURIComponent(model.trim())}` }"
_BATCHES = (1, 8, 32, 128)
_LINES = (("Best quality", "quality"), ("Fast decode", "fast"))


@dataclass
class _Detail:
    """The boxes about one model, in the order `_filled` gives their values."""

    shown: list[Any] = field(default_factory=list)
    batch: Any = None
    line: Any = None


def build(workbench: Workbench, page: gr.Blocks) -> None:
    """Lay out the page and attach its handlers."""
    top_bar(workbench, page, "/models")
    model = gr.Textbox(visible="hidden")
    with gr.Column(visible=False) as listing:
        known = _listing()
    wrong = gr.HTML(elem_id="wrong-model")
    with gr.Column(visible=False, elem_id="model") as whole:
        detail = _detail()
        profile = model_profile.Section()
        with gr.Column(elem_classes="sheet"):
            gr.HTML("<h2>Jobs</h2>")
            detail.shown.append(gr.HTML(elem_id="model-jobs"))
        detail.shown.append(detail.line)
    shown = [listing, known, wrong, whole, *detail.shown]

    def on_open(name: str) -> list[Any]:
        return [name, *_opened(workbench, name, len(detail.shown))]

    def on_batch(size: int, name: str) -> list[Any]:
        return model_figures.memory(model_facts(workbench, name), size)

    def on_line(preset: str, name: str) -> list[Any]:
        facts = model_facts(workbench, name)
        return model_figures.frontier_plot(workbench, facts, pareto_points(workbench, facts.name), preset)

    opened = page.load(on_open, model, [model, *shown], js=_READ_MODEL, **QUIET)
    profile.attach(workbench, model, opened)
    detail.batch.input(on_batch, [detail.batch, model], detail.shown[2:4], **QUIET)
    detail.line.input(on_line, [detail.line, model], detail.shown[4:6], **QUIET)


def _listing() -> gr.HTML:
    gr.HTML("<h1>Models</h1>")
    with gr.Column(elem_classes="sheet"):
        known = gr.HTML(elem_id="models")
        with gr.Row(elem_classes="open-model"):
            name = gr.Textbox(
                label="Another model", info="a local folder or a Hub id", elem_id="other-model", scale=3
            )
            button = gr.Button("Open", elem_id="open-model", min_width=96, scale=0)
    gr.on([button.click, name.submit], None, name, None, js=_OPEN)
    return known


def _detail() -> _Detail:
    detail = _Detail()
    detail.shown.append(gr.HTML(elem_id="model-head"))
    with gr.Row(equal_height=True):
        with _sheet():
            gr.HTML("<h2>What it is</h2>")
            detail.shown.append(gr.HTML(elem_id="model-facts"))
        with _sheet():
            gr.HTML("<h2>What its cache costs</h2>" + _MEMORY_CAPTION)
            detail.batch = gr.Radio(_BATCHES, value=1, label="Sequences", elem_id="model-batch")
            detail.shown += [plot_box("model-kv-plot"), gr.HTML()]
    with gr.Column(elem_classes="sheet"):
        gr.HTML("<h2>Size against loss</h2>" + _PARETO_CAPTION)
        detail.line = gr.Radio(
            _LINES, value=DEFAULT_PRESET, label="Predicted line", elem_id="pareto-line", visible=False
        )
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                detail.shown += [plot_box("pareto-plot"), gr.HTML()]
            with gr.Column(scale=2, min_width=280):
                detail.shown.append(gr.HTML(elem_id="points"))
    return detail


def _sheet() -> gr.Column:
    return gr.Column(elem_classes="sheet", scale=1, min_width=320)


def _opened(workbench: Workbench, name: str, boxes: int) -> list[Any]:
    """The list, or one model, or why there is none; in the order of `shown`."""
    off = [gr.Column(visible=False), *[gr.skip()] * boxes]
    if not name:
        return [gr.Column(visible=True), parts.model_table(known_models(workbench)), "", *off]
    try:
        facts = model_facts(workbench, name)
    except WorkbenchError as error:
        listed = parts.model_table(known_models(workbench))
        return [gr.Column(visible=True), listed, failure(error), *off]
    return [gr.Column(visible=False), gr.skip(), "", gr.Column(visible=True), *_filled(workbench, facts)]


def _filled(workbench: Workbench, facts: ModelFacts) -> list[Any]:
    points, jobs = pareto_points(workbench, facts.name), jobs_of(workbench, facts.name)
    return [
        parts.model_head(facts, points),
        parts.model_facts(facts),
        *model_figures.memory(facts, 1),
        *model_figures.frontier_plot(workbench, facts, points, DEFAULT_PRESET),
        parts.point_list(points) if points else empty(NO_POINTS),
        parts.model_jobs(jobs[:_SHOWN_JOBS], len(jobs)) if jobs else empty(NO_JOBS_OF_MODEL),
        gr.Radio(visible=workbench.profiles.newest(workbench.settings.home, facts.name) is not None),
    ]


_SHOWN_JOBS = 50
_MEMORY_CAPTION = (
    '<p class="caption">What a filled cache of the original takes, beside the memory of common GPUs. '
    "The weights need their own room.</p>"
)
_PARETO_CAPTION = (
    '<p class="caption">Each point is a finished job, measured; the line is what the profile predicts, with '
    "its range. Further left is smaller, further down is better. A click opens the job.</p>"
)
