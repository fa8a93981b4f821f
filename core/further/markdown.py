# SPDX-License-Identifier: Apache-2.0
"""The tables of an evaluation as Markdown: ready to stand in a model card."""

from collections.abc import Mapping
from typing import Any

_HOW = """Figures in brackets are 95 % intervals: Student's t over the windows of a text, Wilson's for shares
of questions, Newcombe's for differences on the same questions. p is that of a paired test (flipped signs)
that the converted model is as good as the original on these windows or questions; of n pairs it is never
below 2 / 2^n.
"""
_RETRIEVAL = """Retrieval follows RULER (arXiv 2404.06654) in words of its own: written is the share of the
answers that stand in what the model writes, chosen how often the right answer is the most likely of several.
"""


def as_markdown(report: Mapping[str, Any]) -> str:
    """One table for each kind of measurement that was made."""
    parts = [f"# Evaluation against {_named(report['base'])}\n", _HOW]
    if report["texts"]:
        parts += ["## Texts\n", _texts(report["texts"])]
    if report["retrieval"]:
        parts += ["## Retrieval\n", _RETRIEVAL, _retrieval(report["retrieval"])]
    if report["harness"]:
        parts += ["## lm-eval\n", _harness(report["harness"])]
    return "\n".join(parts)


def _texts(rows: list[dict[str, Any]]) -> str:
    head = "| model | text | sample | perplexity ratio | KL, nats | same top token | p |\n"
    head += "|---|---|---|--:|--:|--:|--:|\n"
    return head + "".join(_text_line(row) for row in rows)


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
