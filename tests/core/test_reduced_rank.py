# SPDX-License-Identifier: Apache-2.0
"""Reduced-rank regression is the best map of its rank, in the metric and with the ridge asked for."""

import pytest
import torch
from torch import Tensor

from core.factor.reduced_rank import reduced_rank

TOKENS, SEEN, SAID = 120, 7, 6
# float64 rounding behind two inversions of moments with a condition number of 1e3
ROUNDING = 1e-9


def normal(draw: torch.Generator, *size: int) -> Tensor:
    return torch.randn(*size, generator=draw, dtype=torch.float64)


def case(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(z, y, G, W): inputs with a spectrum, outputs with noise, a metric, and a map near the best one."""
    draw = torch.Generator().manual_seed(seed)
    z = normal(draw, TOKENS, SEEN) * torch.logspace(1, -0.5, SEEN, dtype=torch.float64)
    wanted = normal(draw, SAID, SEEN)
    y = z @ wanted.T + normal(draw, TOKENS, SAID)
    metric = normal(draw, SAID, 2 * SAID)
    return z, y, metric @ metric.T, wanted + 0.1 * normal(draw, SAID, SEEN)


def objective(z: Tensor, y: Tensor, metric: Tensor, towards: Tensor, weight: float, found: Tensor) -> Tensor:
    """E||G^{1/2} (y - M z)||^2 + weight ||G^{1/2} (M - W)||^2."""
    missed, moved = y - z @ found.T, found - towards
    return ((missed @ metric) * missed).sum() / TOKENS + weight * ((metric @ moved) * moved).sum()


def moments(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return z.T @ z / TOKENS, z.T @ y / TOKENS


@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("rank", [1, 3])
def test_no_other_factors_are_better(rank: int, ridge: float) -> None:
    """L-BFGS over both factors, from five random starts, ends at the closed form and never below."""
    z, y, metric, towards = case()
    square, cross = moments(z, y)
    weight = ridge * float(square.diagonal().mean())
    up, down = reduced_rank(square, cross, metric, rank, ridge, towards)
    assert up.shape == (SAID, rank)
    assert down.shape == (rank, SEEN)
    best = float(objective(z, y, metric, towards, weight, up @ down))
    ends = []
    for seed in range(5):
        draw = torch.Generator().manual_seed(seed)
        free = [normal(draw, SAID, rank).requires_grad_(), normal(draw, rank, SEEN).requires_grad_()]
        optimiser = torch.optim.LBFGS(
            free, max_iter=400, line_search_fn="strong_wolfe", tolerance_change=1e-12
        )

        def closure(free: list[Tensor] = free, optimiser: torch.optim.Optimizer = optimiser) -> Tensor:
            optimiser.zero_grad()
            lost = objective(z, y, metric, towards, weight, free[0] @ free[1])
            lost.backward()
            return lost

        optimiser.step(closure)
        ends.append(float(closure().detach()))
    assert min(ends) >= best * (1 - 1e-9)
    assert min(ends) == pytest.approx(best, rel=1e-6)


def test_at_full_rank_it_is_least_squares() -> None:
    """Whatever the metric, and as torch solves it."""
    z, y, metric, _ = case(1)
    up, down = reduced_rank(*moments(z, y), metric, SAID)
    assert (up @ down - torch.linalg.lstsq(z, y).solution.T).abs().max() < ROUNDING


def test_a_large_ridge_leaves_the_map_where_it_was() -> None:
    """Truncated to the rank in the metric of the output; from zero it shrinks to nothing."""
    z, y, metric, towards = case(2)
    up, down = reduced_rank(*moments(z, y), metric, SAID, 1e9, towards)
    assert (up @ down - towards).abs().max() < 1e-6
    up, down = reduced_rank(*moments(z, y), metric, SAID, 1e9)
    assert (up @ down).abs().max() < 1e-6


def test_inputs_that_never_vary_are_no_obstacle() -> None:
    """A channel that is always zero has no moments; nothing is divided by it."""
    z, y, metric, _ = case(3)
    z[:, 2] = 0
    up, down = reduced_rank(*moments(z, y), metric, SAID)
    assert torch.isfinite(up @ down).all()
    fitted = torch.linalg.lstsq(z, y, driver="gelsd").solution.T
    assert (z @ (up @ down - fitted).T).abs().max() < ROUNDING
