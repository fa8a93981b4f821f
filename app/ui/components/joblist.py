# SPDX-License-Identifier: Apache-2.0
"""The table of jobs."""

from collections.abc import Sequence
from html import escape

from app.ui.components.chips import state as state_chip
from app.ui.components.messages import empty
from app.ui.components.progress import model_name, recipe_name
from app.ui.components.tables import framed
from app.ui.format import ago, ratio, times
from app.ui.strings import NO_MATCH
from core.store.views import ACTIVE, JobView

_COLUMNS = ("state", "model", "recipe", "cache", "perplexity", "submitted")


def job_table(jobs: Sequence[JobView], total: int) -> str:
    """Newest first; each row is a link to its page."""
    if not jobs:
        return empty(NO_MATCH)
    head = "".join(f"<th>{title}</th>" for title in _COLUMNS)
    more = f'<p class="caption">{len(jobs)} of {total}, newest first</p>' if total > len(jobs) else ""
    rows = "".join(_row(job) for job in jobs)
    return framed("jobs", rows, head=f"<tr>{head}</tr>") + more


def _row(job: JobView) -> str:
    address = f"/jobs/{escape(job.id)}"
    before = job.metrics.get("kv_bytes_per_token_before")
    after = job.metrics.get("kv_bytes_per_token_measured")
    change = job.metrics.get("perplexity_ratio")
    step = f" <small>{job.done}/{job.total}</small>" if job.state in ACTIVE and job.total else ""
    created = job.created_at.isoformat(timespec="seconds")
    return (
        f"<tr><td>{state_chip(job.state)}{step}</td>"
        f'<td><a href="{address}" title="{escape(job.spec.model)}">{escape(model_name(job))}</a></td>'
        f"<td>{escape(recipe_name(job))}</td>"
        f"<td>{times(before / after) + ' smaller' if before and after else '–'}</td>"
        f"<td>{ratio(change) if change is not None else '–'}</td>"
        f'<td><time datetime="{created}" title="{created}">{ago(job.created_at)}</time></td></tr>'
    )
