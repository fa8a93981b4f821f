# SPDX-License-Identifier: Apache-2.0
"""FreqFold: which neighbouring frequencies are mixed as one. Plain numbers: the page draws folds, too."""

from collections.abc import Sequence

from core.spec import GRADED

# (slowest frequency in radians per token, width of a fold in octaves)
_OCTAVES = ((0.15, 1.0), (0.02, 1.5), (3e-4, 2.0), (0.0, 4.0))


def fold_starts(inv_freq: Sequence[float], freqfold: int, kept: int, kv_heads: int) -> list[int]:
    """First pairs of the folds for `kept` shared rotary pairs, ascending.

    Graded folds widen as pairs turn more slowly. Folding trades exact frequencies for fewer pairs: not worth
    it when most pairs stay anyway.
    """
    if freqfold == GRADED and kept < kv_heads * len(inv_freq) // 2:
        return graded_starts(inv_freq)
    return list(range(0, len(inv_freq), max(1, freqfold)))


def graded_starts(inv_freq: Sequence[float]) -> list[int]:
    """An octave where a pair turns within a few tokens, four where it does not turn within a context."""
    starts, first = [], 0
    while first < len(inv_freq):
        starts.append(first)
        fastest = inv_freq[first]
        octaves = next(width for slowest, width in _OCTAVES if fastest >= slowest)
        # a hair of slack, so that a pair exactly on the edge does not depend on rounding
        last_one = fastest * 2.0**-octaves * (1 + 1e-6)
        first += max(1, sum(one > last_one for one in inv_freq[first:]))
    return starts
