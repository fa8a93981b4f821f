# SPDX-License-Identifier: Apache-2.0
"""The tables of an evaluation as Markdown: ready to stand in a model card."""

from collections.abc import Mapping, Sequence
from typing import Any

HOW = """Figures in brackets are 95 % intervals: Student's t over the windows of a text, Wilson's for shares
of questions, Newcombe's for differences on the same questions. p is that of a paired test (flipped signs)
that the converted model is as good as the original on these windows or questions; of n pairs it is never
below 2 / 2^n.
"""
_RETRIEVAL = """Retrieval follows RULER (arXiv 2404.06654) in words of its own: written is the share of the
answers that stand in what the model writes, chosen how often the right answer is the most likely of several.
"""


def as_markdown(report: Mapping[str, Any]) -> str:
    """One table for each kind of measurement that was made."""
    return "\n".join([f"# Evaluation against {_named(report['base'])}\n", HOW, *sections(report)])


def sections(report: Mapping[str, Any], level: int = 2) -> list[str]:
    """Heading, of that level, and table of each kind of measurement: for a report, or for a model card."""
    parts: list[str] = []
    mark = "#" * level
    if report["texts"]:
        parts += [f"{mark} Texts\n", texts_table(report["texts"])]
    if any(len(row.get("by_position") or ()) > 1 for row in report["texts"]):
        parts += [f"{mark} By position in the window\n", _positions(report["texts"])]
    if report["retrieval"]:
        parts += [f"{mark} Retrieval\n", _RETRIEVAL, _retrieval(report["retrieval"])]
    if report["harness"]:
        parts += [f"{mark} lm-eval\n", _harness(report["harness"])]
    return parts


def texts_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Both models on every text, with samples, intervals and the paired test."""
    head = "| model | text | sample | perplexity ratio | KL, nats | same top token | p |\n"
    head += "|---|---|---|--:|--:|--:|--:|\n"
    return head + "".join(_text_line(row) for row in rows)


def _positions(rows: Sequence[Mapping[str, Any]]) -> str:
    """Where it stops being trustworthy; of windows with one bucket the table of texts says as much."""
    head = "| model | text | tokens of the window | predicted | perplexity ratio | KL, nats |\n"
    head += "|---|---|---|--:|--:|--:|\n"
    lines = []
    for row in rows:
        buckets = row.get("by_position") or ()
        for one in buckets if len(buckets) > 1 else ():
            ratio = span({"value": one["ratio"], "low": one["ratio_low"], "high": one["ratio_high"]})
            lines.append(
                f"| {_named(row['model'])} | {_named(row['text'])} | {one['from']:,} to {one['to']:,} | "
                f"{one['tokens']:,} | {ratio} | {one['kl_to_base']:.3f} |\n"
            )
    return head + "".join(lines)


def _text_line(row: Mapping[str, Any]) -> str:
    sample = f"{row['windows']} x {row['context']:,} tokens"
    start = f"| {_named(row['model'])} | {_named(row['text'])} | {sample} |"
    if "perplexity_base" not in row:
        return f"{start} (perplexity {row['perplexity']:.3f}) | | | |\n"
    paired = row["paired"]
    if paired is None:
        ratio = row["perplexity"] / row["perplexity_base"]
        return f"{start} {ratio:.3f} | {row['kl_to_base']:.3f} | {row['top1_agreement']:.1%} | |\n"
    cells = span(paired["perplexity_ratio"]), span(paired["kl_to_base"]), share(paired["top1_agreement"])
    return f"{start} {' | '.join(cells)} | {paired['p_value']:.2g} |\n"


def _retrieval(rows: list[dict[str, Any]]) -> str:
    head = "| model | task | tokens | questions | written | to original | chosen | to original | chance |\n"
    head += "|---|---|--:|--:|--:|--:|--:|--:|--:|\n"
    return head + "".join(
        f"| {_named(row['model'])} | {row['task']} | {row['context']:,} | {row['samples']} | "
        f"{share(row['match'])} | {_apart(row.get('match_to_base'))} | {share(row['choice'])} | "
        f"{_apart(row.get('choice_to_base'))} | {row['chance']:.1%} |\n"
        for row in rows
    )


def _harness(rows: list[dict[str, Any]]) -> str:
    head = "| model | task | metric | questions | score | to original |\n|---|---|---|--:|--:|--:|\n"
    return head + "".join(
        f"| {_named(row['model'])} | {row['task']} | {row['metric']} | {row['samples']} | "
        f"{span(row['score'])} | {_apart(row.get('score_to_base'))} |\n"
        for row in rows
    )


def span(one: Mapping[str, Any]) -> str:
    """1.234 (1.220 to 1.250)."""
    ends = "" if one["low"] is None else f" ({one['low']:.3f} to {one['high']:.3f})"
    return f"{one['value']:.3f}{ends}"


def share(one: Mapping[str, Any]) -> str:
    """87.6% (86.1% to 89.1%)."""
    return f"{one['value']:.1%} ({one['low']:.1%} to {one['high']:.1%})"


def _apart(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return ""
    return f"{one['value']:+.1%} ({one['low']:+.1%} to {one['high']:+.1%}), p = {one['p_value']:.2g}"


def _named(name: str) -> str:
    """Without the path, which is nobody's business."""
    return name.rstrip("/").rsplit("/", maxsplit=1)[-1]
