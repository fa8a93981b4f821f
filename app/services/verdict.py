# SPDX-License-Identifier: Apache-2.0
"""One sentence a colleague would say about a converted model."""

import math
from collections.abc import Mapping

from app.services.savings import linear_savings

# perplexity of the converted model divided by the original's. An int8 cache costs about 1.01, a good
# int4 weight quantisation 1.05; people ship both. 1.5 separates a small model from the next smaller one of
# its family (OPT 1.3B and 350M); at 2 it is another model
LOSSLESS = 1.01
SMALL = 1.05
NOTICEABLE = 1.5
HEAL = 2.0

# how much of the loss healing wins back is not known before it
_HEALING = "It needs healing (fine-tuning)."
_COULD_HEAL = "Healing (fine-tuning) would win some of it back."
_MORE = "More tokens may win back more."


def verdict(metrics: Mapping[str, float]) -> str:
    """Size and quality in plain words, from `perplexity_ratio`; says so when quality was not measured."""
    size = _size(metrics) + _weights(metrics)
    ratio = metrics.get("perplexity_ratio")
    if (ratio is None and "perplexity_base" in metrics) or (ratio is not None and not math.isfinite(ratio)):
        # the record keeps finite numbers only: the original was measured, the ratio could not be stored
        return f"{size}, but not usable as it is: its perplexity cannot be measured: infinite."
    if ratio is None:
        return f"{size}; what that costs in quality was not measured."
    before = metrics.get("perplexity_ratio_before_healing")
    change = f"perplexity ×{_ratio(ratio)}" + (f" (×{_ratio(before)} before it was healed)" if before else "")
    is_healed = "healing_tokens" in metrics
    if ratio <= LOSSLESS:
        return f"{size}, no loss that can be measured: {change}."
    if ratio <= SMALL:
        return f"{size}, almost no loss: {change}."
    if ratio <= NOTICEABLE:
        return f"{size} with a noticeable loss: {change}. {_MORE if is_healed else _COULD_HEAL}"
    if ratio <= HEAL:
        return f"{size}, but it lost a good part of its quality: {change}. {_MORE if is_healed else _HEALING}"
    return f"{size}, but not usable as it is: {change}. {_MORE if is_healed else _HEALING}"


def _size(metrics: Mapping[str, float]) -> str:
    before = metrics.get("kv_bytes_per_token_before")
    after = metrics.get("kv_bytes_per_token_measured", metrics.get("kv_bytes_per_token_formula"))
    if not before or not after:
        return "Converted"
    factor = before / after
    if factor < 0.995:
        return f"The cache is {1 / factor:.1f} times larger"
    return "The cache keeps its size" if factor < 1.005 else f"The cache is {factor:.1f} times smaller"


def _weights(metrics: Mapping[str, float]) -> str:
    found = linear_savings(metrics)
    return f", and {100 * found.share:.0f} % of the linear layers are gone" if found else ""


def _ratio(ratio: float) -> str:
    return f"{ratio:.3f}" if ratio < 1.1 else f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}"
