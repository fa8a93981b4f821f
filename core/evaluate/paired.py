# SPDX-License-Identifier: Apache-2.0
"""Two models on the same windows or questions: is the difference more than chance? No torch.

Pairing takes out what makes a window hard for both, which is most of what varies.
"""

import math
from collections.abc import Sequence

import numpy as np

from core.evaluate.intervals import Interval, fraction_interval

# with so many pairs every assignment of signs is tried: 65,536
_EXACT_PAIRS = 16
_DRAWS = 100_000
_BLOCK = 2_000


def paired_p_value(differences: Sequence[float]) -> float:
    """Two-sided p of "the mean difference is zero", by flipping signs (Fisher's permutation test).

    Exact for up to 16 pairs that differ, so of n pairs no p is below 2 / 2**n; of more, 100,000 draws with a
    fixed seed, p at least 1e-5. On answers that are right or wrong it is McNemar's exact test.
    """
    # pairs without a difference keep their sum under either sign
    found = np.asarray([one for one in differences if one != 0], dtype=np.float64)
    if not len(found):
        return 1.0
    # sums that are equal but for rounding count as equal
    reached = abs(float(found.sum())) * (1 - 1e-12)
    if len(found) <= _EXACT_PAIRS:
        bits = np.arange(2 ** len(found))[:, None] >> np.arange(len(found)) & 1
        return float((np.abs((1.0 - 2.0 * bits) @ found) >= reached).mean())
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(_DRAWS // _BLOCK):
        signs = generator.integers(0, 2, size=(_BLOCK, len(found))) * 2.0 - 1.0
        hits += int((np.abs(signs @ found) >= reached).sum())
    return (hits + 1) / (_DRAWS + 1)


def paired_fractions(base: Sequence[float], other: Sequence[float]) -> Interval:
    """Interval of mean(other) - mean(base) for scores between 0 and 1 on the same questions.

    Newcombe's score method for paired proportions (1998, method 10 without its continuity term): it keeps its
    width when both models agree on everything. Raises ValueError without a question.
    """
    first, second = np.asarray(base, dtype=np.float64), np.asarray(other, dtype=np.float64)
    p, q = (fraction_interval(float(one.mean()), len(one)) for one in (first, second))
    spread = float(first.std() * second.std())
    agreement = float(((first - first.mean()) * (second - second.mean())).mean()) / spread if spread else 0.0
    down = _score(q.value - q.low, p.high - p.value, agreement)
    up = _score(q.high - q.value, p.value - p.low, agreement)
    difference = q.value - p.value
    return Interval(difference, difference - down, difference + up).within(-1.0, 1.0)


def _score(one: float, two: float, agreement: float) -> float:
    return math.sqrt(max(0.0, one**2 - 2 * agreement * one * two + two**2))
