# SPDX-License-Identifier: Apache-2.0
"""How lost rotations count in a prediction is found from measured losses, not assumed."""

from collections.abc import Callable

import pytest

from core.curves import LayerCurves, MeasuredPoint, RecipeCurves
from core.presets import PRESETS
from core.profiling import fitted_curves
from core.widths import Widths

LAYERS, RANKS, DIMS = 4, (0, 32, 64, 96, 128), (8, 12, 16, 24, 32, 48)
# budgets with the rule's rotary dims, and one of them with half and with twice as many
TRIED = ((12, 32), (16, 64), (24, 96), (32, 128), (8, 72), (32, 48))
WEIGHT = 2e-4


def lost(dims: int) -> float:
    """Logit energy of a layer that keeps `dims` rotary dims, in units of its own."""
    return 3000 / dims


def tail(rank: int) -> float:
    """Nats that a layer's latent of that rank discards."""
    return 0.1 * 2 ** (-rank / 24)


def true_loss(one: Widths, power: float) -> float:
    return 2.5 * LAYERS * (tail(one.rank) + WEIGHT / 100 ** (power - 1) * lost(one.rope_dim) ** power)


def fitted(loss: Callable[[Widths], float]) -> RecipeCurves:
    layer = LayerCurves(
        rope_dims=DIMS,
        rope_lost=tuple(map(lost, DIMS)),
        tail=(tuple(tail(rank) for rank in range(129)),) * len(DIMS),
    )
    points = tuple(
        MeasuredPoint(keep=0.1 + place / 10, rope_dim=dims, rank=rank, measured=loss(Widths(dims, rank)))
        for place, (dims, rank) in enumerate(TRIED)
    )
    return fitted_curves(PRESETS["fast"].recipe, tuple(range(129)), (layer,) * LAYERS, points)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_losses_at_other_rotary_dims_are_predicted_however_rotations_count(power: float) -> None:
    """Widths that no fit saw, half the usual rotary dims among them: within the step of the tried weights."""
    found = fitted(lambda one: true_loss(one, power))
    assert found.rope_power == power
    for dims, rank in ((8, 48), (12, 80), (16, 48), (24, 64), (48, 32)):
        one = Widths(dims, rank)
        predicted = found.fit.loss(found.raw([one] * LAYERS))
        # weights are tried in steps of 10^(1/8), so that the nearest is off by at most 16 %
        assert predicted == pytest.approx(true_loss(one, power), rel=0.16)


def test_rotations_that_cost_nothing_are_not_counted() -> None:
    """Then the plain sum of tails fits without an error, and nothing else is better."""
    found = fitted(lambda one: LAYERS * tail(one.rank))
    assert found.rope_weight == 0
    assert found.fit.spread == pytest.approx(1)


def test_a_profile_of_before_counts_as_it_was_fitted() -> None:
    stored = fitted(lambda one: true_loss(one, 1.0)).model_dump(exclude={"rope_power"})
    assert RecipeCurves.model_validate(stored).rope_power == 1
