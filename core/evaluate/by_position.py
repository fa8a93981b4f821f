# SPDX-License-Identifier: Apache-2.0
"""Perplexity by position in the window: where does a conversion stop being trustworthy?

What a recipe puts in place of a dropped rotation is fitted at the calibration's length, and its error grows
with the distance between tokens; the mean over a long window hides that.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from core.evaluate.perplexity import WORK, exp_or_inf
from core.evaluate.scores import TokenScores

_FIRST_EDGE = 512


@dataclass(frozen=True)
class PositionBucket:
    """Predicted tokens whose index in their window is `start` or more and below `end`; token 0 is given."""

    start: int
    end: int
    tokens: int
    perplexity: float
    perplexity_base: float

    @property
    def ratio(self) -> float:
        return self.perplexity / self.perplexity_base

    def as_json(self) -> dict[str, float]:
        """The object the command line prints; "from" is no name in Python."""
        return {
            "from": self.start,
            "to": self.end,
            "tokens": self.tokens,
            "perplexity": self.perplexity,
            "perplexity_base": self.perplexity_base,
            "ratio": self.ratio,
        }


def bucket_edges(context: int) -> tuple[int, ...]:
    """0, 512, 1024, 2048, ... up to `context`: every bucket is as long as all before it."""
    edges = [0]
    edge = _FIRST_EDGE
    while edge < context:
        edges.append(edge)
        edge *= 2
    return (*edges, context)


class PositionTally:
    """Sums of both models' losses at every position: add windows of one `context`, ask for the buckets."""

    def __init__(self, context: int) -> None:
        self._context = context
        self._windows = 0
        self._loss_base = torch.zeros(context, dtype=WORK)
        self._loss = torch.zeros(context, dtype=WORK)

    def add(self, scores: TokenScores) -> None:
        """Count one window in; its first score belongs to token 1."""
        self._windows += 1
        self._loss_base[1:] += scores.loss_base
        self._loss[1:] += scores.loss

    def buckets(self) -> list[PositionBucket]:
        """One bucket between every two edges of `bucket_edges`."""
        return [self._bucket(start, end) for start, end in pairwise(bucket_edges(self._context))]

    def _bucket(self, start: int, end: int) -> PositionBucket:
        tokens = self._windows * (end - max(start, 1))

        def mean(losses: Tensor) -> float:
            return float(losses[start:end].sum()) / tokens

        return PositionBucket(
            start, end, tokens, exp_or_inf(mean(self._loss)), exp_or_inf(mean(self._loss_base))
        )
