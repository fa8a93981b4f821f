# SPDX-License-Identifier: Apache-2.0
"""The table of jobs: state in words, key figures, disk, and what can be done with each."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby

from app.services.disk import JobBytes
from app.services.queue import Expected
from app.ui.components.actions import action
from app.ui.components.chips import state as state_chip
from app.ui.components.messages import empty
from app.ui.components.progress import model_name, recipe_name
from app.ui.components.state_words import state_words
from app.ui.components.tables import framed, labelled
from app.ui.format import ago, ratio, size, times
from app.ui.strings import NO_MATCH
from core.store.views import ACTIVE, DELETABLE, RESUMABLE, JobView, State

_COLUMNS = ("job", "state", "cache", "perplexity", "disk", "submitted", "")
WAITING = frozenset({State.QUEUED, State.INTERRUPTED})
PAUSABLE = WAITING | {State.RUNNING, State.VERIFYING}
CANCELLABLE = WAITING | (ACTIVE - {State.CANCELLING}) | {State.PAUSED}


def job_table(
    jobs: Sequence[JobView], total: int, soon: Mapping[str, Expected], disk: Mapping[str, JobBytes]
) -> str:
    """Newest first, the jobs of a sweep together under its line; each row is a link to its page."""
    if not jobs:
        return empty(NO_MATCH)
    head = "".join(f'<th scope="col">{title}</th>' for title in _COLUMNS)
    more = f'<p class="caption">{len(jobs)} of {total}, newest first</p>' if total > len(jobs) else ""
    rows = []
    for sweep, group in groupby(jobs, key=lambda job: job.sweep_id):
        members = list(group)
        rows += [_sweep_row(sweep, members)] if sweep else []
        rows += [job_row(job, soon.get(job.id), disk.get(job.id)) for job in members]
    return framed("jobs", "".join(rows), head=f"<tr>{head}</tr>") + more


def job_row(job: JobView, soon: Expected | None, disk: JobBytes | None) -> str:
    """One job."""
    before = job.metrics.get("kv_bytes_per_token_before")
    after = job.metrics.get("kv_bytes_per_token_measured")
    change = job.metrics.get("perplexity_ratio")
    words = state_words(job, soon)
    created = job.created_at.isoformat(timespec="seconds")
    return (
        f'<tr{_class(job)}><th scope="row"><a href="/jobs/{escape(job.id)}" title="{escape(job.spec.model)}">'
        f"{escape(model_name(job))}</a><small>{escape(_about(job))}</small></th>"
        f'<td class="status">{state_chip(job.state)}<small title="{words}">{words}</small></td>'
        f"{labelled('cache', times(before / after) + ' smaller' if before and after else '')}"
        f"{labelled('perplexity', ratio(change) if change is not None else '')}"
        f"{labelled('disk', size(disk.total) if disk and disk.total else '')}"
        f'<td class="when"><time datetime="{created}" title="{created}">{ago(job.created_at)}</time></td>'
        f'<td class="acts">{_acts(job, disk)}</td></tr>'
    )


def _class(job: JobView) -> str:
    return ' class="of-sweep"' if job.sweep_id else ""


def _about(job: JobView) -> str:
    return "profile" if job.spec.kind == "profile" else recipe_name(job)


def _sweep_row(sweep: str, jobs: Sequence[JobView]) -> str:
    done = sum(job.state is State.DONE for job in jobs)
    return (
        f'<tr class="sweep"><th scope="rowgroup" colspan="7"><a href="/sweep?id={escape(sweep)}">'
        f"Sweep of {escape(model_name(jobs[0]))}</a><small>{done} of {len(jobs)} done</small></th></tr>"
    )


def _acts(job: JobView, disk: JobBytes | None) -> str:
    about = f"job {job.id}, {model_name(job)} {_about(job)}"
    found = []
    if job.state in PAUSABLE:
        found.append(action("pause", job.id, "Pause", about))
    if job.state in RESUMABLE:
        found.append(action("resume", job.id, "Resume", about))
    if job.state in CANCELLABLE:
        found.append(action("cancel", job.id, "Cancel", about))
    if address := clone_address(job):
        found.append(f'<a class="act" href="{address}" aria-label="Clone {escape(about)}">Clone</a>')
    if job.state in DELETABLE:
        found.append(action("delete", job.id, "Delete", about, confirm=delete_question(job, disk)))
    return "".join(found)


def clone_address(job: JobView) -> str:
    """The form with what this job was asked for; empty for a kind that has none."""
    forms = {"convert": "/?from=", "heal": "/heal?clone=", "evaluate": "/evaluate?clone="}
    return f"{forms[job.spec.kind]}{escape(job.id)}" if job.spec.kind in forms else ""


def delete_question(job: JobView, disk: JobBytes | None) -> str:
    """What is asked before a job is deleted."""
    freed = f" This gives back {size(disk.total)}." if disk and disk.total else ""
    kept = " Its result cannot be downloaded any more." if job.state is State.DONE else ""
    return f"Delete the job {model_name(job)} {_about(job)}?{freed}{kept}"
