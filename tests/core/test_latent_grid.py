# SPDX-License-Identifier: Apache-2.0
"""The basis a latent is stored in: the same maps, equal channels."""

import pytest
import torch
from torch import Tensor

from core.factor.latent_grid import grid, hartley, level
from core.factor.svd import Factors

INPUTS = 24


@pytest.fixture
def covariance() -> Tensor:
    """Inputs of very different sizes."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(INPUTS, INPUTS, generator=generator, dtype=torch.float64)
    sizes = torch.logspace(0, -3, INPUTS, dtype=torch.float64)
    return (root * sizes) @ (root * sizes).T


def factors(rank: int, k_rank: int, v_rank: int) -> Factors:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return Factors(draw(rank, INPUTS), draw(10, k_rank), draw(12, v_rank))


@pytest.mark.parametrize("width", [1, 2, 7, 120])
def test_the_mixing_is_its_own_inverse_at_every_width(width: int) -> None:
    mix = hartley(width)
    assert torch.equal(mix, mix.T)
    # rounding of sums of 120 products in float64
    torch.testing.assert_close(mix @ mix, torch.eye(width, dtype=torch.float64), rtol=0, atol=1e-13)
    assert float(mix.abs().max()) <= (2 / width) ** 0.5 + 1e-12


@pytest.mark.parametrize(("rank", "k_rank", "v_rank"), [(9, 9, 9), (9, 4, 5), (9, 6, 7), (9, 0, 9)])
def test_keys_and_values_stay_what_they_were(covariance: Tensor, rank: int, k_rank: int, v_rank: int) -> None:
    """A shared latent, one part each, parts that overlap, and values alone."""
    before = factors(rank, k_rank, v_rank)
    after = level(before, covariance)
    for name, part in (("k_up", slice(0, k_rank)), ("v_up", slice(rank - v_rank, rank))):
        old, new = (getattr(one, name) @ one.down[part] for one in (before, after))
        # float64 through scales over three orders of magnitude
        torch.testing.assert_close(new, old, rtol=0, atol=1e-10)


def test_channels_become_alike() -> None:
    """Sizes a factor of 30 apart, which is less than what counts as nothing, end equal."""
    down = torch.eye(INPUTS, dtype=torch.float64)
    uncorrelated = torch.diag(torch.logspace(0, -1.5, INPUTS, dtype=torch.float64).square())
    after = level(Factors(down, down, down), uncorrelated)
    scale, zero = grid(
        after.down,
        torch.zeros(0, 2, INPUTS + 1, dtype=torch.float64),
        uncorrelated,
        torch.ones(INPUTS).double(),
    )
    torch.testing.assert_close(scale, torch.ones_like(scale), rtol=0, atol=1e-12)
    torch.testing.assert_close(zero, after.down.sum(dim=1), rtol=0, atol=1e-12)


def test_a_rotary_key_has_one_scale_a_pair_and_no_mean(covariance: Tensor) -> None:
    """What a rotation mixes cannot have two scales; its bias counts, since it turns too."""
    rope = torch.randn(2, 6, INPUTS + 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    mean = torch.randn(INPUTS, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    down = torch.zeros(4, INPUTS, dtype=torch.float64)
    scale, zero = grid(down, rope, covariance, mean)
    energy = rope[..., :-1] @ (covariance + torch.outer(mean, mean)) @ rope[..., :-1].transpose(1, 2)
    energy = (
        energy.diagonal(dim1=1, dim2=2) + 2 * rope[..., -1] * (rope[..., :-1] @ mean) + rope[..., -1] ** 2
    )
    pairs = energy.view(2, 2, 3).mean(dim=1).sqrt()
    torch.testing.assert_close(
        scale[4:].view(2, 2, 3), torch.stack([pairs, pairs], dim=1), rtol=1e-12, atol=0
    )
    assert bool((zero[4:] == 0).all())
    # a channel that is always zero has no size of its own
    assert bool((scale[:4] == 1).all())
