# SPDX-License-Identifier: Apache-2.0
"""What would make the loss known: the profile, what it costs, and how far it is."""

from html import escape

from app.ui.components.messages import trouble
from app.ui.format import THIN, rough_duration
from app.ui.strings import STAGE_WORDS
from core.store.views import FINAL, JobView, State


def offer_label(seconds: float | None) -> str:
    """What stands on the button."""
    if seconds is None:
        return "Make the profile (some minutes)"
    return f"Make the profile (about {rough_duration(seconds)})"


def profile_progress(job: JobView | None) -> str:
    """Where the job that makes it is, or why it stopped; nothing without one."""
    if job is None:
        return ""
    link = f'<a href="/jobs/{escape(job.id)}">its job</a>'
    if job.state is State.FAILED:
        return trouble(f"No profile: {job.reason or 'the job failed'}", job.hint) + f"<p>See {link}.</p>"
    if job.state is State.CANCELLED:
        return f'<p class="caption">The profile was stopped, see {link}.</p>'
    if job.state is State.QUEUED:
        words = f"waits, position {job.queue_position or 1}"
    else:
        stage = STAGE_WORDS.get(job.stage, job.stage) or "starting"
        count = f" {job.done}/{job.total}" if job.total else ""
        left = f", about {rough_duration(job.eta_seconds)} left" if job.eta_seconds else ""
        words = f"{stage}{count}{left}"
    bar = f'<progress max="{job.total}" value="{job.done}"></progress>' if job.total else ""
    return f'<div class="jobhead offer"><p>Profile: {words}{THIN}· {link}</p>{bar}</div>'


def is_under_way(job: JobView | None) -> bool:
    """It may still become a profile without anybody doing anything."""
    return job is not None and job.state not in FINAL
