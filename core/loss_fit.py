# SPDX-License-Identifier: Apache-2.0
"""From second-order sums to losses: a rising line through what was measured, and its error."""

import math
from bisect import bisect_right
from collections.abc import Sequence

from core.spec import Frozen

# nothing has no logarithm; 1e-9 nats is below what float32 logits can show
_NOTHING = 1e-9
_Point = tuple[float, float]


class LossFit(Frozen):
    """Straight lines between `knots` (sum, loss), rising in both, in logarithms; a power law of exponent
    `slope` beyond them. `spread` is the largest factor by which a point between others was missed when it was
    left out: a loss is meant as loss / spread to loss * spread. Beyond the outermost points, which are
    measured, the error is not known.
    """

    knots: tuple[tuple[float, float], ...]
    slope: float
    spread: float

    def loss(self, total: float) -> float:
        """What a second-order sum of `total` loses: KL in nats per token."""
        return math.exp(
            _line([_log(knot) for knot in self.knots], self.slope, math.log(max(total, _NOTHING)))
        )


def fit_losses(totals: Sequence[float], measured: Sequence[float]) -> LossFit:
    """The fit of two or more sums to the losses measured for them."""
    points = sorted(_log(point) for point in zip(totals, measured, strict=True))
    worst = 0.0
    # without an outermost point the line would have to guess where no prediction is asked for
    between = range(1, len(points) - 1) if len(points) > 3 else range(len(points))
    for index in between:
        x, y = points[index]
        others = points[:index] + points[index + 1 :]
        worst = max(worst, abs(_line(_rising(others), _slope(others), x) - y))
    knots = tuple((math.exp(x), math.exp(y)) for x, y in _rising(points))
    return LossFit(knots=knots, slope=_slope(points), spread=math.exp(worst))


def _log(point: _Point) -> _Point:
    return math.log(max(point[0], _NOTHING)), math.log(max(point[1], _NOTHING))


def _line(knots: Sequence[_Point], slope: float, x: float) -> float:
    """The height at x of the line through `knots`."""
    right = bisect_right([knot[0] for knot in knots], x)
    if right == 0 or right == len(knots):
        end = knots[0] if right == 0 else knots[-1]
        return end[1] + slope * (x - end[0])
    (x0, y0), (x1, y1) = knots[right - 1 : right + 1]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def _rising(points: Sequence[_Point]) -> list[_Point]:
    """Neighbours that fall, or stand on one x, become their mean (pool adjacent violators)."""
    pools: list[list[_Point]] = []
    for point in points:
        pools.append([point])
        while len(pools) > 1 and not _before(_mean(pools[-2]), _mean(pools[-1])):
            last = pools.pop()
            pools[-1] += last
    return [_mean(pool) for pool in pools]


def _before(one: _Point, other: _Point) -> bool:
    return one[0] < other[0] and one[1] <= other[1]


def _mean(points: Sequence[_Point]) -> _Point:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def _slope(points: Sequence[_Point]) -> float:
    """Of the least-squares line, not falling; 0 when all stand on one x."""
    centre, height = _mean(points)
    below = sum((x - centre) ** 2 for x, _ in points)
    return max(0.0, sum((x - centre) * (y - height) for x, y in points) / below) if below else 0.0
