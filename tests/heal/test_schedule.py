# SPDX-License-Identifier: Apache-2.0
"""Learning rates by step, the curve, and how it goes on."""

import math

import pytest

from core.heal.curve import MOST_POINTS, Curve, HeldOutPoint, TrainPoint
from core.heal.outlook import look_ahead
from core.heal.schedule import learning_rate
from core.heal.spec import Healing


def rates(steps: int, **fields: object) -> list[float]:
    healing = Healing.model_validate({"source": ".", "learning_rate": 1.0} | fields)
    return [learning_rate(step, steps, healing) for step in range(steps)]


def test_cosine_rises_linearly_and_falls_towards_zero() -> None:
    found = rates(100, schedule="cosine", warmup=0.1)
    assert found[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert found[10] == 1.0
    assert found[55] == pytest.approx(0.5)  # in the middle of the fall
    assert 0 < found[99] < 0.001


def test_one_minus_sqrt_stays_and_falls_in_its_share_of_the_steps() -> None:
    found = rates(100, schedule="1-sqrt", warmup=0.1, decay=0.2)
    assert set(found[10:81]) == {1.0}
    assert found[81:] == pytest.approx([1 - math.sqrt(passed / 20) for passed in range(1, 20)])


def test_without_warmup_the_first_step_has_the_whole_rate() -> None:
    assert rates(5, warmup=0.0)[0] == 1.0


def test_a_decay_longer_than_what_follows_the_warmup_starts_behind_it() -> None:
    found = rates(10, schedule="1-sqrt", warmup=0.5, decay=1.0)
    assert found[5] == 1.0
    assert found == sorted(found[:5]) + sorted(found[5:], reverse=True)


def test_a_long_curve_keeps_its_mean_and_its_last_point() -> None:
    steps = 10 * MOST_POINTS
    curve = Curve(steps=steps)
    for step in range(steps):
        curve.add(TrainPoint(tokens=step + 1, loss=step % 2, learning_rate=0.1, tokens_per_second=1.0))
    assert len(curve.train) == MOST_POINTS
    assert all(point.loss == pytest.approx(0.5) for point in curve.train)
    assert curve.train[-1].tokens == steps


def test_the_outlook_finds_a_power_law_again_and_says_how_far_a_target_is() -> None:
    curve = Curve(steps=100)
    curve.add(TrainPoint(tokens=8000, loss=0.0, learning_rate=0.1, tokens_per_second=1.0, steps=80))
    for tokens in range(1000, 9000, 1000):
        curve.held_out.append(HeldOutPoint(tokens=tokens, kl=3 * tokens**-0.25, perplexity_ratio=1.0))
    found = look_ahead(curve, 100)
    assert found is not None
    assert (found.factor, found.power) == pytest.approx((3, 0.25))
    assert found.spread == pytest.approx(1)
    assert found.kl_at_end == pytest.approx(3 * 10_000**-0.25)
    assert found.tokens_to(3 * 20_000**-0.25) == pytest.approx(20_000)


def test_a_curve_that_does_not_fall_has_no_target() -> None:
    curve = Curve(steps=100)
    curve.add(TrainPoint(tokens=8000, loss=0.0, learning_rate=0.1, tokens_per_second=1.0, steps=80))
    curve.held_out += [
        HeldOutPoint(tokens=tokens, kl=0.5 + tokens / 1e6, perplexity_ratio=1.0)
        for tokens in range(1000, 9000, 1000)
    ]
    found = look_ahead(curve, 100)
    assert found is not None
    assert found.tokens_to(0.1) is None
