# SPDX-License-Identifier: Apache-2.0
"""FreqFold: neighbouring frequencies share one, exact when they are equal (TransMLA, section 4.3)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_layer import Shape, random_case
from torch import Tensor

from core.convert import Factoring
from core.rope.mix import MIX, Fold, PairMoments, fixed_folds, graded_folds
from core.rope.moments import cross_pair_moments
from core.rope.parting import augmented, rotation_of
from core.rope.select import SELECT, Slot, shared_pairs
from core.rope.split import affine, shared
from core.spec import GRADED, Recipe

# float64 rounding through a softmax
ROUNDING = 1e-9
# three KV heads of 8 dims: every component rotates, and a latent as wide as the values
EVERYTHING = {"rope_dim": 24, "kv_rank": 8}


def rope(head_dim: int, base: float) -> Tensor:
    return base ** -(torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)


def plain_moments(inv_freq: Tensor, kv_heads: int) -> PairMoments:
    """Keys without correlations: folds follow from the frequencies alone."""
    keys = torch.eye(len(inv_freq) * kv_heads, dtype=torch.complex128)
    return PairMoments(keys, torch.ones(len(inv_freq), kv_heads, dtype=torch.float64), inv_freq)


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("mix", MIX)
def test_folding_equal_frequencies_is_exact(mix: str, size: int) -> None:
    """All components kept; 3 does not divide the 4 pairs, so that the last fold is a shorter one."""
    case = random_case(shape=Shape(has_bias=True), inv_freq=torch.full((4,), 0.37))
    recipe = Recipe(rope_mix=mix, rope_select="logit-damage", freqfold=size)
    assert case.difference(case.converted(recipe, **EVERYTHING)) < ROUNDING


def test_folding_different_frequencies_is_not() -> None:
    """What folding costs; with it the test above cannot pass by accident."""
    recipe = Recipe(rope_mix="complex", rope_select="logit-damage", freqfold=2)
    case = random_case()
    assert case.difference(case.converted(recipe, **EVERYTHING)) > 1e-3


@pytest.mark.parametrize("mix", MIX)
def test_graded_folds_of_equal_frequencies_are_one_exact_fold(mix: str) -> None:
    case = random_case(inv_freq=torch.full((4,), 0.37))
    recipe = Recipe(rope_mix=mix, rope_select="logit-damage", freqfold=GRADED)
    query, key, kv_heads = affine(case.weights.q, None), affine(case.weights.k, None), case.shape.kv_heads
    rotation = rotation_of(query, case.statistics, case.inv_freq, kv_heads, recipe)
    keys = cross_pair_moments(key, augmented(case.statistics), kv_heads)
    (one,) = graded_folds(PairMoments(keys, rotation, case.inv_freq), mix)
    slots = [Slot(one, index, float(one.inv_freq[index])) for index in range(len(one.damage))]
    plan = case.plan(recipe, **EVERYTHING)
    split = shared(query, query, key, slots, kv_heads)
    tensors, _, _ = Factoring(case.weights, split, case.statistics, plan, recipe).at(plan)
    assert case.difference(case.module(plan, tensors)) < ROUNDING


@pytest.mark.parametrize("base", [1e4, 1e5, 5e5, 1e6])
@pytest.mark.parametrize("head_dim", [16, 64, 80, 128])
def test_graded_folds_cover_every_pair_once(head_dim: int, base: float) -> None:
    inv_freq = rope(head_dim, base)
    folds = graded_folds(plain_moments(inv_freq, 2), "complex")
    covered = [pair for one in folds for pair in range(one.first, one.last)]
    assert covered == list(range(head_dim // 2))
    for one in folds:
        # what turns within a few tokens is folded over less than an octave, what hardly turns over four
        octaves = float((inv_freq[one.first] / inv_freq[one.last - 1]).log2())
        assert octaves <= (1.0 if inv_freq[one.first] >= 0.15 else 4.0)
    assert len(folds) < head_dim // 2 or head_dim == 16


@pytest.mark.parametrize("wanted", [1, 2, 5, 32])
def test_fixed_folds_cover_every_pair_once(wanted: int) -> None:
    folds = fixed_folds(plain_moments(rope(64, 1e4), 3), "roro", wanted)
    assert [pair for one in folds for pair in range(one.first, one.last)] == list(range(32))
    assert {one.last - one.first for one in folds[:-1]} <= {wanted}
    assert all(len(one.damage) == 3 * (one.last - one.first) for one in folds)


@pytest.mark.parametrize("mix", MIX)
def test_a_fold_turns_between_its_fastest_and_its_slowest_pair(mix: str) -> None:
    case = random_case()
    recipe = Recipe(rope_mix=mix, rope_select="logit-damage")
    query, key = affine(case.weights.q, None), affine(case.weights.k, None)
    rotation = rotation_of(query, case.statistics, case.inv_freq, 3, recipe)
    moments = PairMoments(cross_pair_moments(key, augmented(case.statistics), 3), rotation, case.inv_freq)
    for one in fixed_folds(moments, mix, 2):
        slowest, fastest = case.inv_freq[one.last - 1], case.inv_freq[one.first]
        assert (one.inv_freq >= slowest * (1 - ROUNDING)).all()
        assert (one.inv_freq <= fastest * (1 + ROUNDING)).all()


@given(
    choice=st.sampled_from(["high", "low", "uniform"]),
    size=st.integers(1, 9),
    kept=st.integers(1, 8),
    start=st.integers(0, 7),
)
def test_frequencies_chosen_one_by_one_are_those_of_the_sets(
    choice: str, size: int, kept: int, start: int
) -> None:
    """TransMLA's collapse: a fold gives its first components, and they turn at the chosen frequencies."""
    inv_freq = rope(16, 1e4)
    folds = fixed_folds(plain_moments(inv_freq, 3), "roro", size)
    slots = shared_pairs(folds, choice, kept, start, inv_freq)
    pairs = SELECT[choice](torch.zeros(1, 8), kept, start)[0]
    assert sorted(slot.frequency for slot in slots) == sorted(inv_freq[pairs].tolist())
    assert len({(slot.fold.first, slot.component) for slot in slots}) == kept
    for slot in slots:
        inside = [pair for pair in pairs.tolist() if slot.fold.first <= pair < slot.fold.last]
        assert slot.component < len(inside)


def test_damage_chooses_across_folds() -> None:
    """Not the first component of every fold, but the largest damages wherever they are."""
    eye = torch.eye(2, dtype=torch.complex128)
    folds = [
        Fold(index, index + 1, eye, eye, torch.tensor(damage), torch.tensor([0.5, 0.5]) / (index + 1))
        for index, damage in enumerate(([9.0, 8.0], [1.0, 0.5], [7.0, 0.1]))
    ]
    slots = shared_pairs(folds, "logit-damage", 3, 0, torch.ones(3))
    assert [(slot.fold.first, slot.component) for slot in slots] == [(0, 0), (0, 1), (2, 0)]
    assert [slot.frequency for slot in slots] == pytest.approx([0.5, 0.5, 0.5 / 3])
