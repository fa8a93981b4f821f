# SPDX-License-Identifier: Apache-2.0
"""How much of one text stands in another: was a model measured on what it has seen? No torch."""

from collections.abc import Iterator

# words in a row that hardly come twice by chance: the usual test for contamination of benchmarks (GPT-3,
# arXiv 2005.14165, appendix C)
WORDS = 13


def shared_share(seen: str, held_out: str) -> float:
    """The share, 0 to 1, of the runs of 13 words of `held_out` that `seen` has word for word."""
    known = set(_runs(seen))
    total = shared = 0
    for run in _runs(held_out):
        total += 1
        shared += run in known
    return shared / total if total else 0.0


def _runs(text: str) -> Iterator[int]:
    """Hashes of every run, case and line breaks aside; equal ones in one process."""
    words = text.lower().split()
    return (hash(tuple(words[start : start + WORDS])) for start in range(len(words) - WORDS + 1))
