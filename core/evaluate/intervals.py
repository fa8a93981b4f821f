# SPDX-License-Identifier: Apache-2.0
"""How far a mean over windows or questions can be trusted: 95 % intervals. No torch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
# of the normal distribution, two-sided, at LEVEL
_Z = 1.959963984540054
_TINY = 1e-300


@dataclass(frozen=True)
class Interval:
    """A mean and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def through(self, rising: Callable[[float], float]) -> "Interval":
        """The interval of `rising` of the mean."""
        return Interval(rising(self.value), rising(self.low), rising(self.high))

    def within(self, least: float, most: float) -> "Interval":
        """Cut to values that can be."""
        return Interval(self.value, max(self.low, least), min(self.high, most))

    def as_json(self) -> dict[str, float]:
        """The object that reports hold."""
        return {"value": self.value, "low": self.low, "high": self.high}


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Student's t interval of the mean of independent values; None of fewer than two.

    Windows of hundreds of tokens have nearly normal means, and at 8 of them t covers the truth in 95 of 100
    cases where a percentile bootstrap does in 88. Windows next to each other in a text are not quite
    independent, so the interval is a little too narrow for other texts of the kind.
    """
    if len(values) < 2:
        return None
    found = np.asarray(values, dtype=np.float64)
    mean = float(found.mean())
    half = student_quantile(len(found) - 1) * float(found.std(ddof=1)) / math.sqrt(len(found))
    return Interval(mean, mean - half, mean + half)


def fraction_interval(share: float, count: int) -> Interval:
    """Wilson's score interval of a mean of `count` scores between 0 and 1 (Wilson 1927).

    It does not collapse at 0 and 1. For scores that are themselves fractions it is wider than need be.
    Raises ValueError without a score.
    """
    if count < 1:
        raise ValueError("no score has no interval")
    weight = _Z**2 / count
    centre = (share + weight / 2) / (1 + weight)
    half = _Z / (1 + weight) * math.sqrt(share * (1 - share) / count + weight / (4 * count))
    return Interval(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


def student_quantile(freedom: int) -> float:
    """The t that LEVEL of Student's distribution lies within, both sides; by bisection, to 1e-10."""
    low, high = 0.0, 1e3
    while high - low > 1e-10:
        middle = (low + high) / 2
        inside = 1 - _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + middle**2))
        low, high = (middle, high) if inside < LEVEL else (low, middle)
    return (low + high) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz's method)."""
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    found = d
    for m in range(1, 500):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _not_zero(1 + term * d)
            c = _not_zero(1 + term / c)
            found *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return math.exp(front) * found / a


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
