# SPDX-License-Identifier: Apache-2.0
"""With plain metrics the latent's weights are the truncated SVD of the stacked keys and values."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core.factor.local import gram_factors, local_factors
from core.factor.metrics import Stacked, root
from core.factor.svd import FORM, Factors

# float64 rounding of a product of a few hundred terms of size one
ROUNDING = 1e-11
D, K, V = 40, 24, 32


def weights(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(K, D, generator=generator), torch.randn(V, D, generator=generator)


def eye(size: int) -> Tensor:
    """The metric that is none."""
    return torch.eye(size, dtype=torch.float64)


def plain(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(up, down) without metrics."""
    return local_factors(matrix, eye(matrix.shape[1])).at(rank)


def factored(form: str, key: Tensor, value: Tensor, k_rank: int, v_rank: int) -> Factors:
    """A form of the factorisation without metrics."""
    nothing = torch.empty(0)
    stacked = Stacked(key.double(), value.double(), nothing, nothing, nothing)
    return FORM[form](stacked, eye(K + V), eye(D)).factors(k_rank, v_rank)


def best(matrix: Tensor, rank: int) -> Tensor:
    """Truncated SVD straight from torch."""
    u, s, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank]


@pytest.mark.parametrize("rank", [1, 7, 31, D])
def test_joint_is_the_truncated_svd_of_keys_over_values(rank: int) -> None:
    key, value = weights()
    factors = factored("joint", key, value, rank, rank)
    product = torch.cat([factors.k_up, factors.v_up]) @ factors.down
    assert factors.down.shape == (rank, D)
    assert (product - best(torch.cat([key, value]), rank)).abs().max() < ROUNDING


@pytest.mark.parametrize(("k_rank", "v_rank"), [(1, 1), (5, 9), (K, V)])
def test_split_is_a_truncated_svd_of_each(k_rank: int, v_rank: int) -> None:
    key, value = weights()
    factors = factored("split", key, value, k_rank, v_rank)
    assert factors.down.shape == (k_rank + v_rank, D)
    assert (factors.k_up @ factors.down[:k_rank] - best(key, k_rank)).abs().max() < ROUNDING
    assert (factors.v_up @ factors.down[k_rank:] - best(value, v_rank)).abs().max() < ROUNDING


def test_the_error_is_the_discarded_singular_values() -> None:
    """Eckart-Young: squared error = sum of squares of what was cut, and no smaller one exists."""
    stacked = torch.cat(weights()).double()
    singular = torch.linalg.svdvals(stacked)
    for rank in range(1, len(singular)):
        up, down = plain(stacked, rank)
        error = (stacked - up @ down).norm() ** 2
        assert float(error) == pytest.approx(float((singular[rank:] ** 2).sum()), rel=1e-10)


def test_the_latent_keeps_the_scale_of_keys_and_values() -> None:
    """Without metrics rows of `down` are orthonormal: |c| is the length of the part of x that is used."""
    up, down = plain(torch.cat(weights()), 12)
    assert (down @ down.T - torch.eye(12, dtype=torch.float64)).abs().max() < ROUNDING
    gram = up.T @ up  # the up-projection's columns are orthogonal too, their lengths fall
    assert (gram - gram.diag().diag()).abs().max() < ROUNDING * float(gram.max())
    assert (gram.diag().diff() <= 0).all()


def test_signs_do_not_depend_on_the_routine_that_found_them() -> None:
    """An SVD is free to flip any pair; the largest entry of each row of `down` is made positive."""
    stacked = torch.cat(weights()).double()
    up, down = plain(stacked, 9)
    largest = down.gather(1, down.abs().argmax(dim=1, keepdim=True))
    assert (largest > 0).all()
    # negating the outputs leaves the row space alone, so only `up` may change its sign
    negated_up, negated_down = plain(-stacked, 9)
    assert (negated_down - down).abs().max() < ROUNDING
    assert (negated_up + up).abs().max() < ROUNDING


@given(seed=st.integers(0, 10_000), rank=st.integers(1, D - 1), form=st.sampled_from(sorted(FORM)))
def test_more_rank_is_never_worse(seed: int, rank: int, form: str) -> None:
    key, value = weights(seed)

    def error(rank: int) -> float:
        ranks = (min(rank, K), min(rank, V)) if form == "split" else (rank, rank)
        factors = factored(form, key, value, *ranks)
        k_down, v_down = factors.down[: factors.k_up.shape[1]], factors.down[-factors.v_up.shape[1] :]
        return float((key - factors.k_up @ k_down).norm() ** 2 + (value - factors.v_up @ v_down).norm() ** 2)

    assert error(rank + 1) <= error(rank) + ROUNDING


def test_a_matrix_of_low_rank_is_reproduced_by_that_rank() -> None:
    """Work is done in float64: a float32 SVD would leave 1e-6 here."""
    generator = torch.Generator().manual_seed(3)
    left, right = (torch.randn(*shape, generator=generator).double() for shape in ((K + V, 6), (6, D)))
    up, down = plain(left @ right, 6)
    assert (up @ down - left @ right).abs().max() < ROUNDING
    assert plain(torch.eye(4), 2)[0].dtype == torch.float64


def test_output_weights_can_be_a_diagonal_or_left_out() -> None:
    """(n) is the diagonal of (n, n), and None is the identity."""
    matrix = torch.cat(weights()).double()
    weight = torch.rand(len(matrix), generator=torch.Generator().manual_seed(1)).double() + 0.1
    short, whole = local_factors(matrix, eye(D), weight), local_factors(matrix, eye(D), weight.diag())
    none, identity = local_factors(matrix, eye(D)), local_factors(matrix, eye(D), eye(len(matrix)))
    for one, other in ((short, whole), (none, identity)):
        assert (one.squares - other.squares).abs().max() < ROUNDING * float(one.squares[0])
        assert (one.up[:, :9] @ one.down[:9] - other.up[:, :9] @ other.down[:9]).abs().max() < ROUNDING


def test_the_tail_is_the_error_in_both_metrics() -> None:
    """||G^{1/2} (W - U_r D_r) P||^2 for every rank, and nothing is left at full rank."""
    matrix = torch.cat(weights()).double()
    draw = torch.Generator().manual_seed(2)
    weight = torch.rand(len(matrix), generator=draw).double() + 0.1
    inputs = torch.randn(D, D, generator=draw).double()
    inputs = inputs @ inputs.T
    found = local_factors(matrix, inputs, weight)
    for rank in (0, 1, 17, D):
        up, down = found.at(rank)
        error = (weight.sqrt()[:, None] * (matrix - up @ down) @ inputs).square().sum()
        # P has a condition number of 1e4 and is inverted on the way
        assert found.tail(rank) == pytest.approx(float(error), rel=1e-8, abs=1e-8 * found.tail(0))


@pytest.mark.parametrize(("rows", "columns"), [(30, 20), (20, 30), (20, 20)])
@pytest.mark.parametrize("weighs", ["not", "channels", "matrix"])
def test_factors_from_the_gram_matrix_are_those_of_the_svd(rows: int, columns: int, weighs: str) -> None:
    draw = torch.Generator().manual_seed(rows + columns)
    matrix = torch.randn(rows, columns, generator=draw, dtype=torch.float64)
    inputs = torch.randn(200, columns, generator=draw, dtype=torch.float64) * torch.logspace(0, -2, columns)
    covariance = inputs.T @ inputs / 200
    channels = torch.rand(rows, generator=draw, dtype=torch.float64) + 0.1
    weight = {"not": None, "channels": channels, "matrix": torch.diag(channels)}[weighs]
    expected, found = (
        local_factors(matrix, root(covariance), weight),
        gram_factors(matrix, covariance, weight),
    )
    for rank in (1, 7, 20):
        (wanted_up, wanted_down), (up, down) = expected.at(rank), found.at(rank)
        # squared singular values reach down to 1e-4 of the largest: their vectors are off by 1e-12 of it
        torch.testing.assert_close(up @ down, wanted_up @ wanted_down, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.squares, expected.squares, rtol=1e-9, atol=1e-12)


def test_all_of_the_gram_factors_is_the_matrix() -> None:
    draw = torch.Generator().manual_seed(5)
    matrix, inputs = (torch.randn(rows, 12, generator=draw, dtype=torch.float64) for rows in (9, 50))
    up, down = gram_factors(matrix, inputs.T @ inputs).at(9)
    torch.testing.assert_close(up @ down, matrix, rtol=0, atol=1e-10)
