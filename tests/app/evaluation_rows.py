# SPDX-License-Identifier: Apache-2.0
"""Rows of an evaluation's tables, as core/further/tables.py makes them."""

from collections.abc import Sequence
from typing import Any


def span(value: float, spread: float) -> dict[str, float]:
    return {"value": value, "low": value - spread, "high": value + spread}


def text_row(model: str, ratio: float) -> dict[str, Any]:
    paired = {
        "windows": 8,
        "level": 0.95,
        "perplexity_ratio": span(ratio, 0.02),
        "loss_difference": span(0.1, 0.02),
        "kl_to_base": span(0.12, 0.01),
        "top1_agreement": span(0.8, 0.03),
        "p_value": 0.0078125,
    }
    figures = {"perplexity": 20 * ratio, "perplexity_base": 20.0, "kl_to_base": 0.12, "top1_agreement": 0.8}
    about = {"model": model, "text": "news", "context": 2048, "windows": 8, "tokens": 16376}
    return {**about, **figures, "paired": paired, "by_position": []}


def retrieval_row(model: str, score: float, **more: Any) -> dict[str, Any]:
    row = {"model": model, "task": "multikey", "context": 1024, "samples": 20, "chance": 0.125}
    return row | {"match": span(score, 0.1), "choice": span(score, 0.1)} | more


def positions() -> list[dict[str, float]]:
    """Two buckets of a window of 1,024 tokens."""
    figures = {"tokens": 4088, "kl_to_base": 0.1, "top1_agreement": 0.9}
    ends = {"perplexity": 30, "perplexity_base": 20, "ratio": 1.5, "ratio_low": 1.4, "ratio_high": 1.6}
    return [{"from": start, "to": start + 512, **figures, **ends} for start in (0, 512)]


def every_table(names: Sequence[str]) -> dict[str, Any]:
    """The figure of an evaluation of the demo and `names`, with every kind of table."""
    apart = span(-0.2, 0.15) | {"p_value": 0.125}
    harness = {"task": "piqa", "metric": "acc_norm", "samples": 100, "score": span(0.6, 0.1)}
    beside = {"match_to_base": apart, "choice_to_base": apart}
    return {
        "base": "demo",
        "conversions": list(names),
        "texts": [text_row(name, 1.2) | {"by_position": positions()} for name in names],
        "retrieval": [retrieval_row("demo", 0.9), *(retrieval_row(name, 0.7, **beside) for name in names)],
        "harness": [{"model": "demo", **harness}]
        + [{"model": name, **harness, "score_to_base": apart} for name in names],
    }
