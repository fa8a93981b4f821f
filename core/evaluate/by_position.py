# SPDX-License-Identifier: Apache-2.0
"""Quality by position in the window: where does a conversion stop being trustworthy?

What a recipe puts in place of a dropped rotation is fitted at the calibration's length, and its error grows
with the distance between tokens; the mean over a long window hides that.
"""

from dataclasses import dataclass
from itertools import pairwise

from core.evaluate.intervals import Interval, mean_interval
from core.evaluate.perplexity import exp_or_inf
from core.evaluate.scores import TokenScores

_FIRST_EDGE = 512


@dataclass(frozen=True)
class PositionBucket:
    """Predicted tokens whose index in their window is `start` or more and below `end`; token 0 is given.

    interval: of the ratio, over windows; None when there was only one.
    """

    start: int
    end: int
    tokens: int
    perplexity: float
    perplexity_base: float
    kl_to_base: float
    top1_agreement: float
    interval: Interval | None

    @property
    def ratio(self) -> float:
        return self.perplexity / self.perplexity_base

    def as_json(self) -> dict[str, float | None]:
        """The object the command line prints; "from" is no name in Python."""
        return {
            "from": self.start,
            "to": self.end,
            "tokens": self.tokens,
            "perplexity": self.perplexity,
            "perplexity_base": self.perplexity_base,
            "ratio": self.ratio,
            "ratio_low": self.interval.low if self.interval else None,
            "ratio_high": self.interval.high if self.interval else None,
            "kl_to_base": self.kl_to_base,
            "top1_agreement": self.top1_agreement,
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
    """Sums of both models' losses in every bucket: add windows of one `context`, ask for the buckets."""

    def __init__(self, context: int) -> None:
        self._spans = list(pairwise(bucket_edges(context)))
        # per bucket and window: sums of base loss, loss, divergence, agreement
        self._sums: list[list[tuple[float, ...]]] = [[] for _ in self._spans]

    def add(self, scores: TokenScores) -> None:
        """Count one window in; its first score belongs to token 1."""
        columns = scores.loss_base, scores.loss, scores.divergence, scores.agrees.double()
        for (start, end), sums in zip(self._spans, self._sums, strict=True):
            rows = slice(max(start, 1) - 1, end - 1)
            sums.append(tuple(float(column[rows].sum()) for column in columns))

    def buckets(self) -> list[PositionBucket]:
        """One bucket between every two edges of `bucket_edges`."""
        return [self._bucket(*span, sums) for span, sums in zip(self._spans, self._sums, strict=True)]

    @staticmethod
    def _bucket(start: int, end: int, sums: list[tuple[float, ...]]) -> PositionBucket:
        length = end - max(start, 1)
        tokens = len(sums) * length
        loss_base, loss, divergence, agreed = (sum(column) / tokens for column in zip(*sums, strict=True))
        differences = mean_interval([(one[1] - one[0]) / length for one in sums])
        return PositionBucket(
            start,
            end,
            tokens,
            exp_or_inf(loss),
            exp_or_inf(loss_base),
            divergence,
            agreed,
            differences.through(exp_or_inf) if differences else None,
        )
