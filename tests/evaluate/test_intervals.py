# SPDX-License-Identifier: Apache-2.0
"""Intervals hold the truth as often as they say, and the paired test is exact where it claims to be."""

import itertools
import math

import numpy as np
import pytest

from core.evaluate.intervals import fraction_interval, mean_interval, student_quantile
from core.evaluate.paired import paired_fractions, paired_p_value

# the share of 2,000 simulated intervals that hold the truth has a standard error of 0.5 %: four of them
RUNS, SLACK = 2_000, 0.02


@pytest.mark.parametrize(
    ("freedom", "expected"), [(1, 12.706205), (2, 4.302653), (7, 2.364624), (30, 2.042272), (200, 1.971896)]
)
def test_quantiles_are_those_of_the_tables(freedom: int, expected: float) -> None:
    """Two-sided 95 %, to the six digits printed in tables of Student's distribution."""
    assert student_quantile(freedom) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("windows", [3, 8, 40])
def test_a_mean_lies_in_its_interval_in_95_of_100_cases(windows: int) -> None:
    """Also of three windows, where an interval from the normal distribution holds it in 81."""
    drawn = np.random.default_rng(windows).normal(0.3, 0.05, size=(RUNS, windows))
    found = [mean_interval(row) for row in drawn]
    held = np.mean([one is not None and one.low <= 0.3 <= one.high for one in found])
    assert abs(held - 0.95) < SLACK


def test_one_window_has_no_interval() -> None:
    assert mean_interval([1.0]) is None


@pytest.mark.parametrize(("share", "count"), [(0.9, 20), (0.5, 50), (0.02, 100)])
def test_a_share_lies_in_its_interval(share: float, count: int) -> None:
    """Wilson's coverage swings around 95 %; it must not fall below 90 % at these."""
    right = np.random.default_rng(1).binomial(count, share, size=RUNS)
    found = [fraction_interval(int(one) / count, count) for one in right]
    assert np.mean([one.low <= share <= one.high for one in found]) > 0.9


def test_all_right_is_not_certain() -> None:
    """20 of 20 leave room for a rate of 84 %: n / (n + z^2)."""
    found = fraction_interval(1.0, 20)
    assert found.high == 1
    assert found.low == pytest.approx(20 / (20 + 1.959964**2), rel=1e-6)


def test_the_difference_of_shares_lies_in_its_interval() -> None:
    """Answers of two models to the same 40 questions that agree more often than chance."""
    generator = np.random.default_rng(2)
    base = generator.random((RUNS, 40)) < 0.8
    other = np.where(generator.random((RUNS, 40)) < 0.3, generator.random((RUNS, 40)) < 0.5, base)
    truth = 0.7 * 0.8 + 0.3 * 0.5 - 0.8
    found = [paired_fractions(*pair) for pair in zip(base.astype(float), other.astype(float), strict=True)]
    held = np.mean([one.low <= truth <= one.high for one in found])
    assert abs(held - 0.95) < SLACK


def test_agreeing_on_everything_is_not_certain_either() -> None:
    """Both models right on all of 20 questions may still differ on others."""
    found = paired_fractions([1.0] * 20, [1.0] * 20)
    assert found.value == 0
    assert found.low < -0.1
    assert found.high > 0.1


def test_the_p_value_is_that_of_all_signs() -> None:
    """Against every assignment of signs, written out."""
    differences = [0.31, -0.12, 0.4, 0.05, 0.22, -0.03, 0.17]
    signs = itertools.product([1, -1], repeat=len(differences))
    sums = [abs(sum(s * d for s, d in zip(one, differences, strict=True))) for one in signs]
    expected = np.mean([one >= abs(sum(differences)) - 1e-12 for one in sums])
    assert paired_p_value(differences) == pytest.approx(expected)


def test_eight_windows_that_agree_give_the_smallest_p_they_can() -> None:
    assert paired_p_value([0.1] * 8) == 2 / 2**8
    assert paired_p_value([0.0] * 8) == 1


def test_right_and_wrong_answers_give_mcnemars_test() -> None:
    """9 questions lost and 2 won: the binomial's two tails."""
    differences = [-1.0] * 9 + [1.0] * 2 + [0.0] * 50
    expected = 2 * sum(math.comb(11, k) for k in range(3)) / 2**11
    assert paired_p_value(differences) == pytest.approx(expected)


@pytest.mark.parametrize("pairs", [10, 30])
def test_equal_models_are_called_different_in_5_of_100_cases(pairs: int) -> None:
    """Both ways to count: exact, and by draws."""
    runs = 200
    drawn = np.random.default_rng(pairs).standard_t(4, size=(runs, pairs))
    found = np.mean([paired_p_value(row) <= 0.05 for row in drawn])
    # the standard error of 5 % of 200 is 1.5 %: four of them
    assert found < 0.05 + 0.062
    assert found > 0
