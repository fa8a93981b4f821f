# SPDX-License-Identifier: Apache-2.0
"""The line from second-order sums to losses: through the points, never falling, honest about its error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.loss_fit import fit_losses

RAW = [0.1, 0.2, 0.5, 1.0, 2.0]
losses = st.floats(1e-4, 10)


def test_a_power_law_is_recovered_everywhere() -> None:
    found = fit_losses(RAW, [3 * value**1.5 for value in RAW])
    for total in (0.01, 0.1, 0.3, 1.7, 20.0):
        assert found.loss(total) == pytest.approx(3 * total**1.5, rel=1e-9)
    assert found.slope == pytest.approx(1.5, rel=1e-9)
    assert found.spread == pytest.approx(1, abs=1e-9)


def test_what_was_measured_is_what_is_predicted() -> None:
    measured = [0.01, 0.05, 0.06, 1.3, 1.4]
    found = fit_losses(RAW, measured)
    assert [found.loss(total) for total in RAW] == pytest.approx(measured)


def test_a_point_that_is_off_shows_in_the_error() -> None:
    measured = [3 * value**1.5 * (2 if value == 0.5 else 1) for value in RAW]
    assert fit_losses(RAW, measured).spread > 1.5


@given(st.lists(st.tuples(losses, losses), min_size=2, max_size=9), losses, losses)
def test_more_is_never_predicted_to_lose_less(
    points: list[tuple[float, float]], one: float, other: float
) -> None:
    found = fit_losses([x for x, _ in points], [y for _, y in points])
    low, high = sorted((one, other))
    assert found.loss(low) <= found.loss(high) * (1 + 1e-9)
    assert found.spread >= 1


def test_nothing_lost_is_nearly_nothing() -> None:
    assert 0 <= fit_losses(RAW, [3 * value**1.5 for value in RAW]).loss(0.0) < 1e-9
