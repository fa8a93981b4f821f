# SPDX-License-Identifier: Apache-2.0
"""Low rank plus single entries: each part is the best for the other, and together they never lose more."""

from itertools import combinations, pairwise

import pytest
import torch
from torch import Tensor

from core.factor.local import local_factors
from core.factor.metrics import root
from core.factor.sparse import Sparse, best_entries, low_rank_plus_sparse

N, D = 16, 12


def normal(draw: torch.Generator, *size: int) -> Tensor:
    return torch.randn(*size, generator=draw, dtype=torch.float64)


def moments_of(draw: torch.Generator, width: int, spread: float = 1.0) -> Tensor:
    """Correlated inputs with a spectrum of 10^spread to 10^-spread."""
    turn = torch.linalg.qr(normal(draw, width, width)).Q
    return (turn * torch.logspace(spread, -spread, width, dtype=torch.float64)) @ turn.T


def loss(residual: Tensor, moments: Tensor, weight: Tensor) -> float:
    return float((weight[:, None] * (residual @ moments) * residual).sum())


def best_by_trying(residual: Tensor, moments: Tensor, nonzeros: int, weight: Tensor) -> float:
    """The least loss over every support, values by least squares in the metric, all rows at once."""
    height, width = residual.shape
    square = torch.kron(weight.diag(), moments)
    flat, ends = residual.flatten(), []
    for support in combinations(range(height * width), nonzeros):
        at = torch.tensor(support)
        values = torch.linalg.solve(square[at[:, None], at[None]], (square @ flat)[at])
        left = flat.clone()
        left[at] -= values
        ends.append(float(left @ square @ left))
    return min(ends)


def test_entries_are_the_best_of_all_where_inputs_are_independent() -> None:
    draw = torch.Generator().manual_seed(0)
    residual, weight = normal(draw, 2, 5), torch.tensor([1.0, 3.0], dtype=torch.float64)
    moments = torch.tensor([4.0, 1.0, 0.1, 2.0, 0.5], dtype=torch.float64).diag()
    found = best_entries(residual, moments, 3, weight)
    assert int((found != 0).sum()) == 3
    best = best_by_trying(residual, moments, 3, weight)
    assert loss(residual - found, moments, weight) == pytest.approx(best, rel=1e-9)


def test_entries_come_near_the_best_of_all_where_inputs_are_correlated() -> None:
    """Of what the best 3 of 10 entries save, those found save nine tenths, in the mean over 20 draws."""
    draw, shares = torch.Generator().manual_seed(1), []
    for _ in range(20):
        residual, moments = normal(draw, 2, 5), moments_of(draw, 5, spread=0.5)
        weight = torch.rand(2, generator=draw, dtype=torch.float64) + 0.5
        whole = loss(residual, moments, weight)
        found = loss(residual - best_entries(residual, moments, 3, weight), moments, weight)
        shares.append((whole - found) / (whole - best_by_trying(residual, moments, 3, weight)))
    assert max(shares) < 1 + 1e-9
    assert sum(shares) / len(shares) > 0.9


def test_values_are_the_best_on_their_support() -> None:
    """The gradient is nothing wherever an entry is."""
    draw = torch.Generator().manual_seed(2)
    residual, moments = normal(draw, N, D), moments_of(draw, D)
    found = best_entries(residual, moments, 40, torch.ones(N, dtype=torch.float64))
    gradient = (found - residual) @ moments
    assert int((found != 0).sum()) == 40
    assert gradient[found != 0].abs().max() < 1e-9


def test_a_low_rank_matrix_with_outliers_is_taken_apart() -> None:
    """Rank 2 and 10 entries, ten times as large as the others: both come back to float64 rounding."""
    draw = torch.Generator().manual_seed(3)
    low = normal(draw, N, 2) @ normal(draw, 2, D)
    single = torch.zeros(N * D, dtype=torch.float64)
    single[torch.randperm(N * D, generator=draw)[:10]] = 15.0
    single = single.view(N, D)
    inputs = root(torch.eye(D))
    found = low_rank_plus_sparse(low + single, inputs, 2, 10, sweeps=500, tolerance=1e-9)
    assert (found.up @ found.down - low).abs().max() < 1e-6
    assert (found.sparse.dense() - single).abs().max() < 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_falls_with_every_sweep_and_is_what_it_is_said_to_be(seed: int) -> None:
    """Never above the low rank alone. Entries from a heavy tail are worth more than the ranks they cost: 28
    entries (with their columns) take the place of two ranks."""
    draw = torch.Generator().manual_seed(seed)
    matrix = normal(draw, N, D) ** 3
    moments = moments_of(draw, D)
    weight = torch.rand(N, generator=draw, dtype=torch.float64) + 0.1
    found = low_rank_plus_sparse(matrix, root(moments), 3, 28, weight, tolerance=0.0)
    local = local_factors(matrix, root(moments), weight)
    assert found.losses[-1] < local.tail(3)
    assert len(found.losses) > 2
    for before, after in pairwise(found.losses):
        assert after < before
    left = matrix - found.up @ found.down - found.sparse.dense()
    assert found.losses[-1] == pytest.approx(loss(left, moments, weight), rel=1e-9)
    assert len(found.sparse.values) == 28
    assert found.losses[-1] < local.tail(5)


def test_the_stored_form_is_the_matrix() -> None:
    """By rows, with empty ones; 8 bytes an entry in float32 and 4 a row."""
    matrix = torch.zeros(4, 6)
    matrix[1, 5], matrix[1, 2], matrix[3, 0] = 1.0, -2.0, 3.0
    found = Sparse.of(matrix)
    assert found.starts.tolist() == [0, 0, 2, 2, 3]
    assert found.columns.tolist() == [2, 5, 0]
    assert torch.equal(found.dense(), matrix)
    assert found.bytes == 3 * 8 + 5 * 4


def test_no_entries_is_the_low_rank_alone_and_too_many_are_refused() -> None:
    matrix = normal(torch.Generator().manual_seed(0), N, D)
    found = low_rank_plus_sparse(matrix, root(torch.eye(D)), 3, 0)
    assert len(found.losses) == 1
    assert not found.sparse.dense().any()
    with pytest.raises(ValueError, match="193 entries of a matrix that has 192"):
        low_rank_plus_sparse(matrix, root(torch.eye(D)), 3, N * D + 1)
