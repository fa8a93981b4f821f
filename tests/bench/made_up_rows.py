# SPDX-License-Identifier: Apache-2.0
"""Rows of the leaderboard with chosen figures."""

from collections.abc import Mapping
from typing import Any

from leaderboard.results import Conversion, Quality, Result
from leaderboard.rows import Row


def make_result(
    preset: str,
    keep: float,
    ratio: float,
    *,
    seconds: float = 60.0,
    positions: Any = (),
    more: Mapping[str, float] | None = None,
    **fields: Any,
) -> Result:
    """A row of a model with 23040 cached bytes per token and that perplexity ratio on both texts.

    `more` are further metrics of the conversion, `fields` those of Row.
    """
    row = Row.model_validate({"name": preset, "preset": preset, "keep": keep} | fields)
    quality = Quality(
        perplexity=20 * ratio, perplexity_base=20, kl_to_base=0.5, top1_agreement=0.75, tokens=8176
    )
    metrics = {
        "kv_bytes_per_token_measured": 23040 * keep,
        "seconds": seconds,
        "peak_memory_bytes": 612_000_000.0,
        **(more or {}),
    }
    return Result(
        row=row,
        conversion=Conversion(metrics=metrics, stages={"calibrating": 40.0, "verifying": 9.0}),
        quality={"wikipedia-heldout": quality, "news": quality},
        positions=positions,
        evaluation_seconds=50.0,
        date="2031-05-17",
    )
