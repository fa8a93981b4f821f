# SPDX-License-Identifier: Apache-2.0
"""Finished jobs side by side as HTML: a letter for each, what was asked, what came of it, what they say."""

from html import escape
from typing import Any
from urllib.parse import quote

from app.services.compare import Comparison, MetricRow
from app.services.savings import with_linear_flops
from app.ui.components.chips import source, term
from app.ui.components.measured import measured_table
from app.ui.components.progress import model_name, recipe_name
from app.ui.components.tables import framed
from app.ui.format import count, duration, flops, integer, number, percent, ratio, size
from app.ui.plots.layer_overlay import COLOURS
from app.ui.strings import NOT_THE_SAME_TEXT, RECIPE_TITLES
from core.store.views import JobView

LETTERS = "ABCDEF"
# what a chat has room for, beside the original
_CHAT_MOST = 2

_SHOWN: dict[str, tuple[str, Any, str | None]] = {
    "kv_bytes_per_token_measured": ("cache per token", size, "kv_bytes_per_token_before"),
    "perplexity": (term("perplexity", "perplexity"), number, "perplexity_base"),
    "perplexity_ratio": (term("perplexity ratio", "ratio"), ratio, None),
    "kl_to_base": (term("KL, nats", "kl"), number, None),
    "kl_predicted": ("KL, as predicted", number, None),
    "top1_agreement": (term("same next token", "top1"), lambda value: percent(value, 1), None),
    "linear_parameters_after": (
        term("parameters of linear layers", "weights_keep"),
        count,
        "linear_parameters_before",
    ),
    "linear_flops_after": ("linear layers, per token", flops, "linear_flops_before"),
    "parameters_after": ("parameters", count, "parameters_before"),
    "evaluation_tokens": ("tokens evaluated", integer, None),
    "seconds": ("time of the job", duration, None),
    "peak_memory_bytes": ("peak memory", size, None),
}


def label_of(job: JobView) -> str:
    """A job in the list one chooses from."""
    change = job.metrics.get("perplexity_ratio")
    loss = f" · perplexity {ratio(change)}" if change is not None else ""
    return f"{model_name(job)} · {recipe_name(job)}{loss} · {job.id}"


def legend(comparison: Comparison) -> str:
    """Which letter is which job; the colour is that of its lines."""
    items = "".join(
        f'<li>{_letter(index)}<a href="/jobs/{escape(job.id)}">{escape(model_name(job))} · '
        f"{escape(recipe_name(job))}</a></li>"
        for index, job in enumerate(comparison.jobs)
    )
    return f'<ul class="letters">{items}</ul>{_chat(comparison)}'


def _letter(index: int) -> str:
    return f'<b class="letter" style="background:{COLOURS[index]}">{LETTERS[index]}</b>'


def _chat(comparison: Comparison) -> str:
    chosen = comparison.jobs[:_CHAT_MOST]
    models = ",".join([comparison.jobs[0].spec.model, *(f"job:{job.id}" for job in chosen)])
    who = " and ".join(LETTERS[index] for index in range(len(chosen)))
    link = f'<a class="button" href="/chat?models={quote(models)}">Chat: original, {who}</a>'
    return f'<p class="buttons">{link}</p>'


def spec_table(comparison: Comparison) -> str:
    """Only what is not the same in all; the first job's values are what the others are held against."""
    if len(comparison.jobs) < 2:
        return '<p class="empty">Choose a second job to see what was asked differently.</p>'
    if not comparison.specs:
        return '<p class="empty">The same was asked of all of them.</p>'
    rows = "".join(
        f"<tr><th>{escape(_field(row.path))}</th>{_against(row.values)}</tr>" for row in comparison.specs
    )
    return framed("compare", rows, head=_head(comparison, ""))


def _against(values: tuple[Any, ...]) -> str:
    first, *others = values
    cells = f'<td class="base">{escape(_said(first))}</td>'
    return cells + "".join(
        f"<td{' class=base' if value == first else ''}>{escape(_said(value))}</td>" for value in others
    )


def _field(path: str) -> str:
    part, _, name = path.rpartition(".")
    if part == "recipe":
        return RECIPE_TITLES.get(name, name)
    return path.replace(".", ": ").replace("_", " ")


def _said(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return f"{len(value)} values of its own"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _head(comparison: Comparison, first: str, original: bool = False) -> str:
    letters = "".join(f"<th>{_letter(index)}</th>" for index in range(len(comparison.jobs)))
    base = '<th class="before">original</th>' if original else ""
    return f"<tr><td>{first}</td>{base}{letters}</tr>"


def metric_table(comparison: Comparison) -> str:
    """Every figure; the best of a row is marked in words as well as in colour."""
    rows = "".join(_metric_row(comparison, row) for row in comparison.metrics)
    note = "" if comparison.is_same_text else f'<p class="caption">{NOT_THE_SAME_TEXT}</p>'
    letters = {LETTERS[index]: _letter(index) for index in range(len(comparison.jobs))}
    further = measured_table(comparison.measured, letters)
    if further:
        further = f'<h2 class="further">Measured further</h2>{further}'
    return framed("compare", rows, head=_head(comparison, "", original=True)) + note + further


def _metric_row(comparison: Comparison, row: MetricRow) -> str:
    label, show, base = _SHOWN[row.name]
    known = (with_linear_flops(job.metrics) for job in comparison.jobs)
    before = next((found[base] for found in known if base in found), None) if base else None
    cells = "".join(
        f'<td class="best" title="best of the row">{show(value)} <small>best</small></td>'
        if index in row.best
        else f"<td>{show(value) if value is not None else '–'}</td>"
        for index, value in enumerate(row.values)
    )
    original = f'<td class="base">{show(before) if before is not None else ""}</td>'
    return f"<tr><th>{label}{source(row.source)}</th>{original}{cells}</tr>"


def samples(comparison: Comparison) -> str:
    """The same few words, continued by each."""
    if not any(comparison.samples):
        return (
            '<p class="empty">These jobs kept no sample: conversions made from now on do. '
            "The chat shows what they say.</p>"
        )
    items = "".join(
        f"<div><dt>{_letter(index)}</dt><dd>"
        + (
            f'<span class="prompt">{escape(one.prompt.lstrip())}</span>{escape(one.continuation)}'
            if one
            else '<span class="prompt">no sample was kept</span>'
        )
        + "</dd></div>"
        for index, one in enumerate(comparison.samples)
    )
    return f'<dl class="samples">{items}</dl>'
