# SPDX-License-Identifier: Apache-2.0
"""How far the curve goes on: a power law through the held-out divergences. A prediction, shown as one."""

import math
from collections.abc import Sequence

from pydantic import Field

from core.heal.curve import Curve, HeldOutPoint
from core.recipe import Frozen

# the first evaluations are of a rate that still rises; fewer points than this say nothing
_FEWEST = 4


class Outlook(Frozen):
    """KL = factor * tokens^-power, fitted to what was measured so far; all of it is predicted."""

    factor: float
    power: float = Field(description="how fast the divergence falls; 0 or less means that it does not")
    spread: float = Field(description="largest factor by which a measured point is off the fit")
    kl_at_end: float = Field(description="after all tokens that were asked for")

    def tokens_to(self, kl: float) -> float | None:
        """Tokens after which the divergence would be `kl`; None when it does not fall."""
        return (self.factor / kl) ** (1 / self.power) if self.power > 0 and kl > 0 else None


def look_ahead(curve: Curve, steps: int) -> Outlook | None:
    """The outlook of a running curve of `steps` steps; None before there are enough points."""
    points = [point for point in curve.held_out if point.tokens > 0 and point.kl > 0]
    # a law of later training: the first third is dominated by where it came from
    points = points[len(points) // 3 :]
    if len(points) < _FEWEST or not curve.train:
        return None
    power, factor = _line(points)
    taken = sum(point.steps for point in curve.train)
    whole = curve.train[-1].tokens / taken * steps
    fitted = [factor * point.tokens**-power for point in points]
    off = (max(one.kl / fit, fit / one.kl) for one, fit in zip(points, fitted, strict=True))
    return Outlook(factor=factor, power=power, spread=max(off), kl_at_end=factor * whole**-power)


def _line(points: Sequence[HeldOutPoint]) -> tuple[float, float]:
    """Least squares of log KL on log tokens: (power, factor)."""
    x = [math.log(point.tokens) for point in points]
    y = [math.log(point.kl) for point in points]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    slope /= sum((a - mean_x) ** 2 for a in x)
    return -slope, math.exp(mean_y - slope * mean_x)
