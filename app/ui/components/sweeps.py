# SPDX-License-Identifier: Apache-2.0
"""A sweep in tables: what it would do, and what came of it so far."""

from collections.abc import Mapping, Sequence
from html import escape
from urllib.parse import quote

from app.services.queue import Expected
from app.services.sweeps import SweepPreview, SweepRow, SweepView
from app.ui.components.actions import action
from app.ui.components.chips import source
from app.ui.components.chips import state as state_chip
from app.ui.components.joblist import CANCELLABLE
from app.ui.components.progress import model_name, recipe_name
from app.ui.components.state_words import state_words
from app.ui.components.tables import framed
from app.ui.format import THIN, duration, guess, number, ratio, rough_duration, size, times
from app.ui.strings import preset_title
from core.store.views import ACTIVE, JobView

_FIRST = (
    '<p class="caption">A first job makes the profile of this model: it calibrates once for all of them, '
    "and then predicts what each will lose{takes}.</p>"
)
_SOURCES = (
    f'<p class="caption">KV cache per token {source("calculated")} · KL {source("predicted")} · '
    f"time {source('estimated')}</p>"
)
_THERE = '<p class="caption">The model has a profile of this text: nothing is calibrated again.</p>'


def preview_table(found: SweepPreview) -> str:
    """The grid of jobs with what is calculated, predicted and estimated of each."""
    titles = ("recipe", "KV cache", "smaller", "KL to the original", "takes")
    head = "<tr>" + "".join(f'<th scope="col">{title}</th>' for title in titles) + "</tr>"
    first = found.profile_seconds
    takes = f", about {rough_duration(first)}" if first is not None else ""
    note = _FIRST.format(takes=takes) if found.makes_profile else _THERE
    seconds = found.seconds
    whole = "time known after a first job" if seconds is None else f"in all about {rough_duration(seconds)}"
    total = f'<p class="whole">{len(found.rows)} conversions<span>{whole}</span></p>'
    return total + note + _SOURCES + framed("jobs grid", "".join(map(_preview_row, found.rows)), head=head)


def _preview_row(row: SweepRow) -> str:
    name = f"{(row.spec.keep or 0) * 100:g}{THIN}% · {escape(preset_title(row.spec.preset or ''))}"
    first = f'<th scope="row">{name}</th>'
    if row.problem:
        hint = f" ({row.problem.hint})" if row.problem.hint else ""
        return f'<tr class="wrong">{first}<td colspan="4">{escape(row.problem.message + hint)}</td></tr>'
    cells = (
        ("cache", size(row.kv_bytes_per_token)),
        ("smaller", times(row.factor)),
        ("KL", f"{guess(row.prediction.loss)} nats" if row.prediction else ""),
        ("takes", rough_duration(row.seconds) if row.seconds is not None else ""),
    )
    return f"<tr>{first}{_cells(cells)}</tr>"


def _cells(cells: Sequence[tuple[str, str]]) -> str:
    """On a narrow screen there is no head: each cell brings its label."""
    return "".join(
        f'<td data-label="{name}">{value}</td>' if value else '<td class="none">–</td>'
        for name, value in cells
    )


def sweep_head(sweep: SweepView) -> str:
    """Progress of the whole, and the way to the plot of its results."""
    first = sweep.jobs[0]
    is_over = sweep.ended == len(sweep.jobs)
    left = "" if is_over or sweep.ends_in is None else f", about {rough_duration(sweep.ends_in)} left"
    failed = sweep.ended - sweep.done
    words = f"{sweep.done} of {len(sweep.jobs)} done{f', {failed} not' if failed else ''}{left}"
    model = quote(first.spec.model, safe="")
    return (
        f'<div class="pagehead"><h1>Sweep of {escape(model_name(first))}</h1>'
        f'<a class="button" href="/models?model={model}">Pareto plot</a></div>'
        f'<p class="now">{words}</p>'
        f'<progress max="1" value="{_share(sweep):.3f}" aria-label="progress of the sweep"></progress>'
    )


def _share(sweep: SweepView) -> float:
    """Ended jobs, and of a running one the part of its stage."""
    steps = sum(job.done / job.total for job in sweep.jobs if job.state in ACTIVE and job.total)
    return (sweep.ended + 0.9 * steps) / len(sweep.jobs)


def sweep_table(sweep: SweepView, soon: Mapping[str, Expected]) -> str:
    """One row for each job, with its numbers as soon as they are measured."""
    titles = ("job", "state", "KV cache", "perplexity", "KL, nats", "took", "")
    head = "<tr>" + "".join(f'<th scope="col">{title}</th>' for title in titles) + "</tr>"
    rows = "".join(_row(job, soon.get(job.id)) for job in sweep.jobs)
    note = f'<p class="caption">What came of each, beside the original{source("measured")}</p>'
    return note + framed("jobs", rows, head=head)


def _row(job: JobView, soon: Expected | None) -> str:
    metrics = job.metrics
    about = "profile" if job.spec.kind == "profile" else recipe_name(job)
    cache = metrics.get("kv_bytes_per_token_measured")
    cells = (
        ("cache", size(cache) if cache else ""),
        ("perplexity", ratio(metrics["perplexity_ratio"]) if "perplexity_ratio" in metrics else ""),
        ("KL", number(metrics["kl_to_base"]) if "kl_to_base" in metrics else ""),
        ("took", duration(metrics["seconds"]) if "seconds" in metrics else ""),
    )
    words = state_words(job, soon)
    stop = action("cancel", job.id, "Cancel", f"job {job.id}, {about}") if job.state in CANCELLABLE else ""
    return (
        f'<tr><th scope="row"><a href="/jobs/{escape(job.id)}">{escape(about)}</a></th>'
        f'<td class="status">{state_chip(job.state)}<small title="{words}">{words}</small></td>'
        f'{_cells(cells)}<td class="acts">{stop}</td></tr>'
    )
