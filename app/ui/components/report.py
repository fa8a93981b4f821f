# SPDX-License-Identifier: Apache-2.0
"""The report on a conversion as one piece of HTML: on its page, and as a file that needs nothing else."""

from collections.abc import Sequence
from html import escape
from typing import Any

from app.services.report import Overlap, Report
from app.services.unmeasured import SEEN
from app.ui.components.chips import source
from app.ui.components.measured import HOW, evaluation_tables
from app.ui.components.progress import model_name, recipe_name
from app.ui.components.report_facts import bytes_rows, facts_of, predicted_rows
from app.ui.components.results import verdict_line
from app.ui.components.tables import framed
from app.ui.format import percent
from app.ui.strings import PRODUCT, REPORT_ABOUT
from app.ui.terms import GLOSSARY
from core.overlap import WORDS


def report_html(found: Report) -> str:
    """Every section; one that has nothing to say tells what is missing."""
    return "".join(
        [
            _head(found),
            _sheet("What was measured on what", facts_of(found) + _overlaps(found.overlaps)),
            _sheet("The cache, per token", _rows(bytes_rows(found.metrics), "the cache was not measured")),
            _sheet("Said before, found after", _rows(predicted_rows(found.metrics), _UNPREDICTED)),
            _sheet("Quality", _quality(found)),
            _sheet("What was not measured", _missing(found.missing)),
            _sheet("Where each number comes from", _sources()),
            _sheet("How to repeat it", _commands(found)),
        ]
    )


_UNPREDICTED = "Nothing was predicted: there was no profile that knows this recipe when it was made."
_NOT_MEASURED = "The quality was not measured: nothing is known of what the conversion lost."


def _head(found: Report) -> str:
    job = found.job
    made = f"{job.finished_at:%Y-%m-%d}" if job.finished_at else ""
    return (
        f'<div class="pagehead"><h1>Report: {escape(model_name(job))}, {escape(recipe_name(job))}</h1>'
        f'<a href="/jobs/{escape(job.id)}">job {escape(job.id)}</a>'
        f'<span class="made">made {made} with {PRODUCT} {escape(_version(found))}</span></div>'
        f"{verdict_line(found.metrics)}"
        f'<p class="caption">{REPORT_ABOUT}</p>'
    )


def _version(found: Report) -> str:
    return str(found.record.get("versions", {}).get(PRODUCT, ""))


def _sheet(title: str, body: str) -> str:
    return f'<section class="card"><h2>{title}</h2>{body}</section>'


def _rows(rows: Sequence[Sequence[str]], nothing: str) -> str:
    if not rows:
        return f'<p class="empty">{nothing}</p>'
    body = "".join(
        f"<tr><th>{name}</th>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
        for name, *cells in rows
    )
    return framed("pairs", body)


def _overlaps(overlaps: Sequence[Overlap]) -> str:
    """Whether what was measured on had been seen."""
    if not overlaps:
        return ""
    rows = []
    for one in overlaps:
        if one.share is None:
            words, mark = "not compared", ""
        else:
            digits = 0 if one.share in (0.0, 1.0) else 2
            words, mark = _seen(one.share, percent(one.share, digits)), source("measured")
        rows.append((escape(_last(one.held_out)), f"in {escape(_last(one.seen))}", words, mark))
    note = f"Runs of {WORDS} words it was measured on that stand, word for word, in what it was made from."
    return f'<h3>Was it measured on what it had seen?</h3>{_rows(rows, "")}<p class="caption">{note}</p>'


def _seen(share: float, words: str) -> str:
    """In the colour of a mistake where it is one."""
    return f'<span class="check check-bad">{words}: not held out</span>' if share > SEEN else words


def _quality(found: Report) -> str:
    if not any(found.tables[kind] for kind in ("texts", "retrieval", "harness")):
        return f'<p class="empty">{_NOT_MEASURED}</p>'
    jobs = len({row["job"] for kind in ("texts", "retrieval", "harness") for row in found.tables[kind]})
    note = (
        f"Of {jobs} job{'s' if jobs > 1 else ''}: conversions and healings measure themselves, evaluations "
        "measure several models on the same samples. The last column says which job measured a row."
    )
    return f'<p class="caption">{note}</p>' + evaluation_tables(found.tables)


def _missing(missing: Sequence[str]) -> str:
    items = "".join(f"<li>{_led(one)}</li>" for one in missing)
    return f'<ul class="gaps">{items}</ul>' if items else '<p class="empty">Nothing that is known of.</p>'


def _led(sentence: str) -> str:
    lead, _, rest = sentence.partition(": ")
    return f"<b>{escape(lead)}.</b> {escape(rest[:1].upper() + rest[1:])}"


def _sources() -> str:
    terms = GLOSSARY["Where a number comes from"]
    rows = [(source(key), escape(term.line)) for key, term in terms.items()]
    return _rows(rows, "") + f'<p class="caption">{HOW}</p>'


def _commands(found: Report) -> str:
    parts = [
        f'<h3>{escape(about)}</h3><div class="frame"><pre>{escape(command)}</pre></div>'
        for about, command in found.commands
    ]
    return "".join(parts) + f'<p class="caption">{_repeatable(found)}</p>'


def _repeatable(found: Report) -> str:
    versions = found.record.get("versions", {})
    said = ", ".join(f"{escape(name)} {escape(str(one))}" for name, one in versions.items())
    with_them = f" with {said}" if said else ""
    return (
        f"The same request on the same weights{with_them} gives the same bytes on the same machine; "
        "the SHA-256 sums above say whether it did. job:ID stands for the result of that job."
    )


def _last(name: Any) -> str:
    return str(name).rstrip("/").rsplit("/", maxsplit=1)[-1]
