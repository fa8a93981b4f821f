# SPDX-License-Identifier: Apache-2.0
"""What a conversion measured of itself, as a row of the tables that an evaluation makes. No torch."""

from collections.abc import Mapping
from typing import Any

from core.spec import Evaluation

_FIGURES = ("perplexity_ratio", "kl_to_base", "top1_agreement")


def own_row(model: str, evaluation: Evaluation | None, metrics: Mapping[str, float]) -> dict[str, Any] | None:
    """A row of `texts` (core/further/tables.py); None when the quality was not measured or is not finite."""
    needed = {"perplexity", "perplexity_base", "evaluation_tokens", *_FIGURES}
    if evaluation is None or not needed <= metrics.keys():
        return None
    return {
        "model": model,
        "text": evaluation.text,
        "context": evaluation.context,
        "windows": evaluation.windows,
        "tokens": int(metrics["evaluation_tokens"]),
        **{name: metrics[name] for name in ("perplexity", "perplexity_base", *_FIGURES[1:])},
        "paired": _paired(evaluation.windows, metrics),
    }


def _paired(windows: int, metrics: Mapping[str, float]) -> dict[str, Any] | None:
    """None of one window, and of conversions from before there were intervals."""
    ends = [f"{name}_{end}" for name in _FIGURES for end in ("low", "high")]
    if not {"p_value", *ends} <= metrics.keys():
        return None
    spans = {
        name: {"value": metrics[name], "low": metrics[f"{name}_low"], "high": metrics[f"{name}_high"]}
        for name in _FIGURES
    }
    return {"windows": windows, **spans, "p_value": metrics["p_value"]}
