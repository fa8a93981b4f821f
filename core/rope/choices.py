# SPDX-License-Identifier: Apache-2.0
"""rope.select on plain arrays: which rotary pairs of each row keep RoPE (MHA2MLA, section 3.1).

Every choice maps (scores, pairs kept, start) to sorted pair indices, shape (rows, kept). `scores` is
(rows, d_h/2); the choices that do not look at text use only its shape. Numpy: the page asks too.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from core.layer_profile import Array

Indices = NDArray[np.int64]
Choice = Callable[[Array, int, int], Indices]


def high(scores: Array, kept: int, start: int = 0) -> Indices:
    """S_high = {k | 0 <= k < r}: the fastest rotations."""
    del start
    return np.tile(np.arange(kept), (len(scores), 1))


def low(scores: Array, kept: int, start: int = 0) -> Indices:
    """S_low = {k | d_h/2 - r <= k < d_h/2}: the slowest rotations."""
    del start
    rows, pairs = scores.shape
    return np.tile(np.arange(pairs - kept, pairs), (rows, 1))


def uniform(scores: Array, kept: int, start: int = 0) -> Indices:
    """S_uniform = {start + floor(k * d_h / 2r) | 0 <= k < r}, wrapping past the last pair."""
    rows, pairs = scores.shape
    chosen = (start + np.arange(kept) * pairs // max(kept, 1)) % pairs
    return np.tile(np.sort(chosen), (rows, 1))


def two_norm(scores: Array, kept: int, start: int = 0) -> Indices:
    """S_2-norm: the r pairs with the largest contribution E|q| x E|k|, for each KV head on its own.

    Equal scores keep the lower (faster) pair, so the choice does not depend on the sort.
    """
    del start
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.sort(order[:, :kept], axis=1).astype(np.int64)


def logit_damage(scores: Array, kept: int, start: int = 0) -> Indices:
    """The r pairs whose rotation carries the most logit energy (core/rope/pairs.py), which `scores` are."""
    return two_norm(scores, kept, start)


CHOICES: Mapping[str, Choice] = {
    "2-norm": two_norm,
    "high": high,
    "low": low,
    "uniform": uniform,
    "logit-damage": logit_damage,
}


def shared_rows(
    scores: Array, folds: Sequence[int], choice: str, kept: int, start: int = 0
) -> list[list[int]]:
    """The picture of `kept` pairs that all heads share, a list for each row; see core/rope/select.py.

    `folds` are the first pairs of the folds, ascending: component j of a fold of n pairs stands in row j // n
    at its pair j % n. scores (rows, d_h/2): the damage of each component.
    """
    rows, pairs = scores.shape
    ends = [*folds[1:], pairs]
    places = np.arange(rows * pairs).reshape(rows, pairs)
    by_fold = [places[:, first:end].ravel() for first, end in zip(folds, ends, strict=True)]
    if choice == "logit-damage":
        everywhere = np.concatenate(by_fold)
        chosen = everywhere[np.argsort(-scores.ravel()[everywhere], kind="stable")[:kept]]
    else:
        wanted = CHOICES[choice](scores[:1], kept, start)[0]
        counts = np.histogram(wanted, [*folds, pairs])[0]
        chosen = np.concatenate([fold[:count] for fold, count in zip(by_fold, counts, strict=True)])
    at, pair = np.divmod(np.sort(chosen), pairs)
    return [pair[at == row].tolist() for row in range(rows)]
