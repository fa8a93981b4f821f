# SPDX-License-Identifier: Apache-2.0
"""The sets of MHA2MLA, section 3.1, written down again from the paper."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.rope.select import SELECT
from core.stages import STAGES

HEADS = 3


def chosen(name: str, pairs: int, kept: int, start: int = 0) -> list[list[int]]:
    scores = torch.rand(HEADS, pairs, generator=torch.Generator().manual_seed(pairs))
    found: list[list[int]] = SELECT[name](scores, kept, start).tolist()
    return found


@pytest.mark.parametrize(("pairs", "kept"), [(32, 4), (64, 8), (32, 5), (8, 8), (8, 1)])
def test_the_sets_are_the_papers(pairs: int, kept: int) -> None:
    """d_h/2 = pairs, r = kept."""
    assert chosen("high", pairs, kept) == [[k for k in range(pairs) if k < kept]] * HEADS
    assert chosen("low", pairs, kept) == [[k for k in range(pairs) if pairs - kept <= k]] * HEADS
    uniform = [math.floor(k * 2 * pairs / (2 * kept)) for k in range(kept)]
    assert chosen("uniform", pairs, kept) == [uniform] * HEADS


def test_uniform_starts_where_it_is_told_and_wraps() -> None:
    assert chosen("uniform", 32, 4, start=7) == [[7, 15, 23, 31]] * HEADS
    assert chosen("uniform", 32, 4, start=10) == [[2, 10, 18, 26]] * HEADS  # 34 wraps to 2
    assert chosen("uniform", 32, 4, start=32) == chosen("uniform", 32, 4)


def test_two_norm_takes_the_largest_of_each_head() -> None:
    scores = torch.tensor([[1.0, 4.0, 2.0, 3.0], [9.0, 0.0, 0.5, 8.0]])
    assert SELECT["2-norm"](scores, 2, 0).tolist() == [[1, 3], [0, 3]]


def test_equal_scores_keep_the_faster_pair() -> None:
    assert SELECT["2-norm"](torch.ones(1, 6), 3, 0).tolist() == [[0, 1, 2]]


@given(
    name=st.sampled_from(sorted(SELECT)),
    pairs=st.integers(1, 128),
    share=st.floats(0, 1),
    start=st.integers(0, 500),
)
def test_every_choice_keeps_as_many_different_pairs_as_asked(
    name: str, pairs: int, share: float, start: int
) -> None:
    """Sorted and without repetition: a repeated pair would drop another one's rotation silently."""
    kept = round(share * pairs)
    for head in chosen(name, pairs, kept, start):
        assert len(head) == kept
        assert head == sorted(set(head))
        assert all(0 <= pair < pairs for pair in head)


def test_every_ready_choice_can_be_run() -> None:
    assert set(SELECT) == set(STAGES["rope_select"].ready)
