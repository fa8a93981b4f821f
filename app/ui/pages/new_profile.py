# SPDX-License-Identifier: Apache-2.0
"""The offer to make the model's profile, and its progress in place until the numbers are there."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.services.estimate import Estimate
from app.services.profile_jobs import profile_job, profile_seconds
from app.services.workbench import Workbench
from app.ui.components.profile_offer import is_under_way, offer_label, profile_progress

_SECONDS = 1.5


@dataclass(frozen=True)
class Offer:
    """Where the profile is offered; the timer runs only while one is being made."""

    progress: gr.HTML
    make: gr.Button
    timer: gr.Timer

    @property
    def outputs(self) -> list[Any]:
        """What `shown` fills, in its order."""
        return [self.progress, self.make, self.timer]


def offer_boxes() -> Offer:
    """Lay it out, all hidden."""
    progress = gr.HTML(elem_id="profile-progress")
    make = gr.Button(offer_label(None), size="md", visible=False, elem_id="make-profile")
    return Offer(progress, make, gr.Timer(_SECONDS, active=False))


def is_profiled(workbench: Workbench, found: Estimate) -> bool:
    """The model of an answer has a profile, whatever that knows of the recipe."""
    facts = found.facts
    return facts is not None and workbench.profiles.newest(workbench.settings.home, facts.name) is not None


def shown_offer(workbench: Workbench, found: Estimate) -> list[Any]:
    """Nothing for a model with a profile, or one that cannot be read; else button or progress."""
    facts, spec = found.facts, found.spec
    if facts is None or facts.problems or is_profiled(workbench, found):
        return ["", gr.Button(visible=False), gr.Timer(active=False)]
    job = profile_job(workbench, facts)
    if job is not None and is_under_way(job):
        return [profile_progress(job), gr.Button(visible=False), gr.Timer(active=True)]
    if spec is not None and spec.weights_keep is not None:
        # it would foresee nothing of smaller weights, and their calibration is not in it
        return [profile_progress(job), gr.Button(visible=False), gr.Timer(active=False)]
    seconds = profile_seconds(workbench, spec, facts) if spec else None
    return [
        profile_progress(job),
        gr.Button(offer_label(seconds), visible=True),
        gr.Timer(active=False),
    ]
