# SPDX-License-Identifier: Apache-2.0
"""The curve of a healing on its job's page: it grows while the page looks, and stays when the job is done."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.services.errors import NotFoundError
from app.services.requests import find_job
from app.services.workbench import Workbench
from app.ui.components.healing_result import before_the_curve, curve_words
from app.ui.components.plot_box import drawn, plot_box
from app.ui.components.plot_links import plot_links
from app.ui.plots.healing_curve import healing_curve, healing_pace
from core.store.views import JobView

# a page that has seen nothing yet
_NOTHING = ""


@dataclass(frozen=True)
class CurveView:
    """Components of the curve; `seen` says what they show, so that nothing is drawn twice."""

    workbench: Workbench
    whole: gr.Column
    words: gr.HTML
    curve: gr.Plot
    pace_title: gr.HTML
    pace: gr.Plot
    links: gr.HTML
    seen: gr.State

    @property
    def outputs(self) -> list[Any]:
        """What `look` fills, in its order."""
        return [self.whole, self.words, self.curve, self.pace_title, self.pace, self.links, self.seen]

    def look(self, job_id: str, seen: str) -> list[Any]:
        """What is new; nothing for a job of another kind."""
        job = self._job(job_id)
        if job is None or job.spec.heal is None:
            return [gr.skip()] * len(self.outputs)
        data = self.workbench.recent.get(("healing_curve", job_id, job.state), lambda: self._curve(job))
        if not data:
            now = f"{job.stage} {job.done} {job.total} {job.state}"
            if now == seen:
                return [gr.skip()] * len(self.outputs)
            return [gr.Column(visible=True), before_the_curve(job), *[gr.skip()] * 4, now]
        now = f"{job.state} {data['train']['tokens'][-1:]} {len(data['held_out']['kl'])}"
        if now == seen:
            return [gr.skip()] * len(self.outputs)
        has_steps = bool(data["train"]["tokens"])
        return [
            gr.Column(visible=True),
            curve_words(job, data),
            drawn(healing_curve(data)),
            gr.HTML("<h3>How fast</h3>", visible=has_steps),
            drawn(healing_pace(data) if has_steps else None),
            plot_links("healing-plot", "the healing", f"/api/v1/jobs/{job_id}/figures/healing_curve"),
            now,
        ]

    def _job(self, job_id: str) -> JobView | None:
        try:
            return (
                self.workbench.recent.get(("job", job_id), lambda: find_job(self.workbench, job_id))
                if job_id
                else None
            )
        except NotFoundError:
            return None

    def _curve(self, job: JobView) -> dict[str, Any]:
        """The newest figure, with the tokens that were asked for; empty before the first."""
        data = self.workbench.store.figures(job.id).get("healing_curve")
        if data is None or job.spec.heal is None:
            return {}
        return {**data, "tokens": job.spec.heal.steps * job.spec.heal.step_tokens}


def build(workbench: Workbench) -> CurveView:
    """Lay out the curve; hidden until a healing is looked at."""
    with gr.Column(visible=False, elem_classes="sheet", elem_id="healing") as whole:
        gr.HTML("<h2>Learning from the original</h2>")
        words = gr.HTML(elem_id="healing-words")
        curve = plot_box("healing-plot")
        pace_title = gr.HTML(visible=False)
        pace = plot_box("healing-pace")
        links = gr.HTML()
    return CurveView(workbench, whole, words, curve, pace_title, pace, links, gr.State(_NOTHING))
