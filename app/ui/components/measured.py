# SPDX-License-Identifier: Apache-2.0
"""What an evaluation found, as tables: every figure with its sample and its 95 % interval."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from app.services.evaluations import MeasuredRow, Span
from app.ui.components.chips import source, term
from app.ui.components.tables import framed, labelled
from app.ui.format import integer, number, percent, ratio, size
from core.store.views import StoredArtefact

HOW = (
    "Small figures are 95 % intervals: Student's t over windows, Wilson's for shares of questions. p is that "
    "of a paired test that the converted model is as good as the original: of n pairs at least 2 / 2^n."
)
_SHOW: Mapping[str, tuple[str, Any]] = {
    "perplexity_ratio": (term("perplexity ratio", "ratio"), ratio),
    "kl_to_base": (term("KL, nats", "kl"), number),
    "top1_agreement": (term("same next token", "top1"), lambda value: percent(value, 1)),
}


def evaluation_tables(report: Mapping[str, Any]) -> str:
    """The figure "evaluation" of a job; empty without one."""
    if not report:
        return ""
    texts, retrieval, harness = (report[kind] for kind in ("texts", "retrieval", "harness"))
    parts = [
        _table("Texts", _TEXT_HEAD, [(row, _text_cells(row)) for row in texts]),
        _table("By position in the window", _POSITION_HEAD, _position_rows(texts)),
        _table("Retrieval", _RETRIEVAL_HEAD, [(row, _retrieval_cells(row)) for row in retrieval]),
        _table("lm-eval", _HARNESS_HEAD, [(row, _harness_cells(row)) for row in harness]),
    ]
    return "".join(parts) + f'<p class="caption">{HOW}</p>'


def measured_table(rows: Sequence[MeasuredRow], names: Mapping[str, str]) -> str:
    """The same figures of several conversions; `names` in words -> what stands in the head for each."""
    if not rows:
        return ""
    body = "".join(
        f"<tr><th>{escape(row.about)}<br>{_figure_name(row.figure)}{source(row.source)}</th>"
        f"{labelled('sample', escape(row.sample))}"
        + "".join(
            labelled(name, _shown(row.figure, one)) for name, one in zip(names, row.values, strict=True)
        )
        for row in rows
    )
    head = "".join(f"<th>{shown}</th>" for shown in names.values())
    table = framed("spans", body, head=f"<tr><td></td><th>sample</th>{head}</tr>")
    return f'{table}<p class="caption">{HOW}</p>'


_TEXT_HEAD = ("model", "text", "sample", "perplexity", *(label for label, _ in _SHOW.values()), "p")
_POSITION_HEAD = (
    "model",
    "text",
    "tokens of the window",
    "predicted",
    *(label for label, _ in _SHOW.values()),
)
_RETRIEVAL_HEAD = ("model", "task", "sample", "written", "to original", "chosen", "to original", "by chance")
_HARNESS_HEAD = ("model", "task", "sample", "metric", "score", "to original")


def evaluation_summary(report: Mapping[str, Any]) -> str:
    """How much was measured."""
    rows = sum(len(report.get(name, ())) for name in ("texts", "retrieval", "harness"))
    models = 1 + len(report.get("conversions", ()))
    words = f"{rows} measurements of {models} models, all on the same samples."
    return f'<p class="verdict verdict-good">{words}</p>'


def evaluation_downloads(job_id: str, files: Sequence[StoredArtefact]) -> str:
    """The report for programs and for people."""
    links = "".join(
        f'<a class="button" href="/api/v1/jobs/{escape(job_id)}/files/{quote(file.name)}" download '
        f'title="SHA-256 {file.sha256}">{escape(file.name)} · {size(file.size)}</a>'
        for file in files
    )
    return (
        f'<div class="buttons">{links}</div><p class="caption">evaluation.md has the tables, ready for a '
        "model card; evaluation.json also every answer.</p>"
    )


def _table(title: str, head: Sequence[str], rows: Sequence[tuple[Mapping[str, Any], list[str]]]) -> str:
    """Cells beside the row they are of; where rows say which job measured them that is the last column."""
    if not rows:
        return ""
    has_jobs = "job" in rows[0][0]
    labels = (*head, "measured by") if has_jobs else head
    body = ""
    for row, cells in rows:
        first, *others = [*cells, _model(f"job:{row['job']}")] if has_jobs else cells
        named = zip(labels[1:], others, strict=True)
        body += f"<tr><th>{first}</th>{''.join(_cell(label, cell) for label, cell in named)}</tr>"
    top = "".join(f"<th>{one}</th>" for one in labels)
    return f"<h3>{title} {source('measured')}</h3>" + framed("spans", body, head=f"<tr>{top}</tr>")


def _cell(label: str, value: str) -> str:
    """On a narrow screen, where there is no head, it says what it is; left out there when empty."""
    plain = label.partition(">")[2].partition("<")[0] if label.startswith("<") else label
    return labelled(plain, value)


def _text_cells(row: Mapping[str, Any]) -> list[str]:
    sample = f"{row['windows']} × {integer(row['context'])} tokens"
    cells = [_model(row["model"]), _model(row["text"]), sample, number(row["perplexity"])]
    if "perplexity_base" not in row:
        return [*cells, "", "", "", ""]
    paired = row["paired"]
    if paired is None:
        change = ratio(row["perplexity"] / row["perplexity_base"])
        return [*cells, change, number(row["kl_to_base"]), percent(row["top1_agreement"], 1), ""]
    spans = [_span(paired[name], show) for name, (_, show) in _SHOW.items()]
    return [*cells, *spans, f"{paired['p_value']:.2g}"]


def _position_rows(
    rows: Sequence[Mapping[str, Any]],
) -> list[tuple[Mapping[str, Any], list[str]]]:
    """Only of windows that are longer than the first bucket: of those the text's own row says it all."""
    found = []
    for row in rows:
        buckets = row.get("by_position") or ()
        for one in buckets if len(buckets) > 1 else ():
            about = [_model(row["model"]), _model(row["text"])]
            place = [f"{integer(one['from'])} to {integer(one['to'])}", integer(one["tokens"])]
            change = {"value": one["ratio"], "low": one["ratio_low"], "high": one["ratio_high"]}
            figures = [number(one["kl_to_base"]), _percent(one["top1_agreement"])]
            found.append((row, [*about, *place, _span(change, ratio), *figures]))
    return found


def _retrieval_cells(row: Mapping[str, Any]) -> list[str]:
    seed = f"<small>seed {row['seed']}</small>" if "seed" in row else ""
    return [
        _model(row["model"]),
        escape(row["task"]),
        f"{row['samples']} × {integer(row['context'])} tokens{seed}",
        _span(row["match"], _percent),
        _apart(row.get("match_to_base")),
        _span(row["choice"], _percent),
        _apart(row.get("choice_to_base")),
        _percent(row["chance"]),
    ]


def _harness_cells(row: Mapping[str, Any]) -> list[str]:
    about = [_model(row["model"]), escape(row["task"]), f"{row['samples']} questions", escape(row["metric"])]
    return [*about, _span(row["score"], number), _apart(row.get("score_to_base"))]


def _percent(value: float) -> str:
    return percent(value, 1)


def _span(one: Mapping[str, Any], show: Any) -> str:
    ends = "" if one["low"] is None else f" <small>{show(one['low'])} to {show(one['high'])}</small>"
    return f"{show(one['value'])}{ends}"


def _apart(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return ""
    low, high = (f"{100 * one[end]:+.1f}" for end in ("low", "high"))
    return f"{100 * one['value']:+.1f} points <small>{low} to {high}, p {one['p_value']:.2g}</small>"


def _figure_name(figure: str) -> str:
    return _SHOW[figure][0] if figure in _SHOW else escape(figure)


def _shown(figure: str, span: Span | None) -> str:
    show = _SHOW[figure][1] if figure in _SHOW else number
    if figure.startswith(("written", "chosen")):
        show = _percent
    return "" if span is None else _span(span.model_dump(), show)


def _model(name: str) -> str:
    """A link for a conversion of this workbench, the last part of a path otherwise."""
    if name.startswith("job:"):
        return f'<a href="/jobs/{escape(name[4:])}">job {escape(name[4:])}</a>'
    return escape(name.rstrip("/").rsplit("/", maxsplit=1)[-1])
