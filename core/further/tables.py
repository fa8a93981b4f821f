# SPDX-License-Identifier: Apache-2.0
"""From finished pieces to the rows of a report, each with its sample size and interval."""

from collections.abc import Mapping, Sequence
from typing import Any

from core.evaluate.intervals import fraction_interval, mean_interval
from core.evaluate.paired import paired_fractions, paired_p_value
from core.further.pieces import Piece

Found = Mapping[Piece, Mapping[str, Any]]


def tables(base: str, conversions: Sequence[str], found: Found) -> dict[str, Any]:
    """The figure "evaluation": what is known by now."""
    rows: dict[str, list[dict[str, Any]]] = {"text": [], "retrieval": [], "harness": []}
    for piece, figures in found.items():
        rows[piece.kind].append(_ROWS[piece.kind](piece, figures, base, found))
    return {
        "base": base,
        "conversions": list(conversions),
        "texts": rows["text"],
        "retrieval": rows["retrieval"],
        "harness": rows["harness"],
    }


def _text_row(piece: Piece, figures: Mapping[str, Any], base: str, found: Found) -> dict[str, Any]:
    del base, found
    return {"model": piece.model, "text": piece.about, "context": piece.context, **figures}


def _retrieval_row(piece: Piece, figures: Mapping[str, Any], base: str, found: Found) -> dict[str, Any]:
    row: dict[str, Any] = {
        "model": piece.model,
        "task": piece.about,
        "context": piece.context,
        "samples": len(figures["depths"]),
        "chance": 1 / figures["choices"],
    }
    own = found.get(Piece("retrieval", base, piece.about, piece.context))
    for name in ("match", "choice"):
        row[name] = _share(figures[name])
        if own is not None and piece.model != base:
            row[f"{name}_to_base"] = _shares_apart(own[name], figures[name])
    return row


def _harness_row(piece: Piece, figures: Mapping[str, Any], base: str, found: Found) -> dict[str, Any]:
    """`scores` of every question where lm-eval has them; its own value and standard error otherwise."""
    scores = figures["scores"]
    row: dict[str, Any] = {
        "model": piece.model,
        "task": piece.about,
        "metric": figures["metric"],
        "samples": figures["samples"],
        "score": {"value": figures["value"], "low": None, "high": None},
    }
    interval = mean_interval(scores)
    if interval is not None:
        row["score"] = _share(scores) if _are_shares(scores) else interval.as_json()
    own = found.get(Piece("harness", base, piece.about, 0))
    others = own["scores"] if own is not None and piece.model != base else []
    if scores and len(others) == len(scores) and _are_shares([*scores, *others]):
        row["score_to_base"] = _shares_apart(others, scores)
    return row


def _are_shares(scores: Sequence[float]) -> bool:
    return all(0 <= one <= 1 for one in scores)


def _share(scores: Sequence[float]) -> dict[str, float]:
    return fraction_interval(sum(scores) / len(scores), len(scores)).as_json()


def _shares_apart(base: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """The difference to the original on the same questions: {value, low, high, p_value}."""
    differences = [b - a for a, b in zip(base, other, strict=True)]
    return paired_fractions(base, other).as_json() | {"p_value": paired_p_value(differences)}


_ROWS = {"text": _text_row, "retrieval": _retrieval_row, "harness": _harness_row}
