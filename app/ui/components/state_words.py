# SPDX-License-Identifier: Apache-2.0
"""A state in words: what a job waits for, where it is, why it stopped, and for how long still."""

from html import escape

from app.services.queue import Expected
from app.ui.format import rough_duration
from app.ui.strings import STAGE_WORDS
from core.store.views import ACTIVE, JobView, State


def state_words(job: JobView, soon: Expected | None) -> str:
    """What stands beside the state: "position 3, about 12 min", "convert 7/30, about 4 min left"."""
    if job.state is State.QUEUED:
        return _waiting(job, soon)
    if job.state in ACTIVE:
        return ", ".join(filter(None, (_step(job), _left(job, soon))))
    if job.state is State.FAILED:
        return escape(job.reason)
    return _step(job) if job.state in (State.PAUSED, State.CANCELLED, State.INTERRUPTED) else ""


def _waiting(job: JobView, soon: Expected | None) -> str:
    place = f"position {job.queue_position or 1}"
    after = f", after job {escape(job.after_id)}" if job.after_id else ""
    if soon is None or soon.starts_in is None:
        return place + after
    wait = f"about {rough_duration(soon.starts_in)}" if soon.starts_in >= 1 else "next"
    return f"{place}{after}, {wait}"


def _step(job: JobView) -> str:
    word = STAGE_WORDS.get(job.stage, job.stage)
    return f"{word} {job.done}/{job.total}" if word and job.total else word


def _left(job: JobView, soon: Expected | None) -> str:
    left = soon.ends_in if soon and soon.ends_in else job.eta_seconds
    return f"about {rough_duration(left)} left" if left else ""
