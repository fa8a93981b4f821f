# SPDX-License-Identifier: Apache-2.0
"""Every allocation spends exactly the budget, within its bounds, and where its rule says."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.allocate import ALLOCATE, numbers, rope_grid
from core.layer_profile import LayerProfile
from core.widths import Widths


def profiles(layers: int, width: int, rope_dims: tuple[int, ...], seed: int) -> list[LayerProfile]:
    """Falling spectra of very different sizes, and rotary losses that fall with the dims kept."""
    generator = np.random.default_rng(seed)
    made = []
    for _ in range(layers):
        size = 10.0 ** float(generator.uniform(-2, 2))
        steps = generator.random((len(rope_dims), width))
        spectrum = size * np.exp(-3 * np.arange(width) / width) * (0.5 + steps)
        lost = np.sort(generator.random(len(rope_dims)))[::-1]
        made.append(LayerProfile(rope_dims, lost, np.sort(spectrum, axis=1)[:, ::-1]))
    return made


@pytest.mark.parametrize("choice", ALLOCATE)
@given(
    layers=st.integers(1, 12),
    rank=st.integers(1, 60),
    groups=st.sampled_from([0, 1, 3]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_every_candidate_spends_the_budget_and_no_more(
    choice: str, layers: int, rank: int, groups: int, seed: int
) -> None:
    widths = Widths(8 if groups else 0, rank)
    dims = tuple(rope_grid(choice, widths, 16))
    found = ALLOCATE[choice](profiles(layers, 64, dims, seed), [widths] * layers, groups)
    for candidate in found.values():
        assert len(candidate) == layers
        assert numbers(candidate, groups) <= layers * (rank + groups * widths.rope_dim)
        assert all(1 <= one.rank <= 64 for one in candidate)
        assert all(one.rope_dim in dims for one in candidate)
    # rounding leaves nothing over where ranks have room on both sides
    if rank <= 30:
        assert numbers(found["uniform"], groups) == layers * (rank + groups * widths.rope_dim)
        assert max(numbers(one, groups) for one in found.values()) == layers * (
            rank + groups * widths.rope_dim
        )


def test_uniform_is_always_a_candidate() -> None:
    for choice in ALLOCATE:
        found = ALLOCATE[choice](profiles(4, 64, (8,), 1), [Widths(8, 20)] * 4, 1)
        assert found["uniform"] == [Widths(8, 20)] * 4


def test_loss_aware_spends_where_the_tempered_gain_is_largest() -> None:
    """No move of one number from a layer to another gains more: loss saved, by the root of a layer's loss."""
    made, widths = profiles(6, 64, (0,), 3), [Widths(0, 24)] * 6
    ranks = [one.rank for one in ALLOCATE["loss-aware"](made, widths, 0)["loss-aware"]]
    for giver in range(6):
        for taker in range(6):
            can_move = ranks[giver] > 12 and ranks[taker] < 48 and giver != taker
            if can_move:
                lost = made[giver].spectrum[0, ranks[giver] - 1] / made[giver].spectrum.sum() ** 0.5
                won = made[taker].spectrum[0, ranks[taker]] / made[taker].spectrum.sum() ** 0.5
                assert won <= lost


def test_energy_keeps_the_same_share_whatever_the_size_of_a_layer() -> None:
    """Scaling one layer's spectrum changes what loss-aware does, and not what energy does."""
    made = profiles(4, 64, (0,), 5)
    scaled = [replace(one, spectrum=one.spectrum * 10.0**index) for index, one in enumerate(made)]
    widths = [Widths(0, 24)] * 4
    assert ALLOCATE["energy"](made, widths, 0) == ALLOCATE["energy"](scaled, widths, 0)
    assert ALLOCATE["loss-aware"](made, widths, 0) != ALLOCATE["loss-aware"](scaled, widths, 0)


def test_condition_numbers_give_early_layers_no_less_than_later_ones() -> None:
    """LoRC: the product of condition numbers from a layer to the last one falls with depth."""
    found = ALLOCATE["condition-number"](profiles(8, 64, (0,), 7), [Widths(0, 24)] * 8, 0)["condition-number"]
    ranks = [one.rank for one in found]
    # a unit of rounding may go either way
    assert all(a >= b - 1 for a, b in pairwise(ranks))
    assert ranks[0] > ranks[-1]


def test_the_tail_is_what_is_left_of_the_spectrum() -> None:
    one = profiles(1, 64, (0,), 9)[0]
    tail = one.tail(0)
    assert float(tail[64]) == 0
    for rank in (0, 1, 13, 63):
        assert float(tail[rank]) == pytest.approx(float(one.spectrum[0, rank:].sum()), rel=1e-12)
    # more rank never costs more
    assert bool((tail[1:] <= tail[:-1]).all())
