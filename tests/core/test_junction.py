# SPDX-License-Identifier: Apache-2.0
"""Junctions change how a factored matrix is stored, never what it computes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from core.factor.junction import JUNCTION, BlockIdentity, Dense, apply_junction
from core.factor.local import local_factors
from core.factor.metrics import root

N, D = 30, 24
# float64 rounding of sums of a few hundred terms of size one, and of one solve with a condition number of 1e2
ROUNDING = 1e-10


def factors(rank: int, seed: int = 0, n: int = N, d: int = D) -> tuple[Tensor, Tensor]:
    """(up, down) of a random matrix in a metric with a condition number of 1e2."""
    draw = torch.Generator().manual_seed(seed)
    matrix = torch.randn(n, d, generator=draw, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(d, d, generator=draw, dtype=torch.float64)).Q
    moments = (turn * torch.logspace(1, -3, d, dtype=torch.float64)) @ turn.T
    return local_factors(matrix, root(moments)).at(rank)


def block_identity(up: Tensor, down: Tensor) -> BlockIdentity:
    found = apply_junction(up, down, "block-identity")
    assert isinstance(found, BlockIdentity)
    return found


@given(
    kind=st.sampled_from(sorted(JUNCTION)),
    rank=st.integers(1, D),
    seed=st.integers(0, 1000),
)
def test_every_junction_is_the_same_matrix(kind: str, rank: int, seed: int) -> None:
    up, down = factors(rank, seed)
    found = apply_junction(up, down, kind)
    x = torch.randn(5, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert (found.product() - up @ down).abs().max() < ROUNDING * up.abs().max()
    assert (found.apply(x) - x @ (up @ down).T).abs().max() < ROUNDING * up.abs().max()


def test_the_diagonal_junctions_place_the_sizes() -> None:
    """left: rows of down have length one; right: columns of up; symmetric: both are equally long."""
    up, down = factors(9)
    ones = torch.ones(9, dtype=torch.float64)
    left, right, both = (apply_junction(up, down, kind) for kind in ("left", "right", "symmetric"))
    assert isinstance(left, Dense)
    assert isinstance(right, Dense)
    assert isinstance(both, Dense)
    assert (left.down.norm(dim=1) - ones).abs().max() < ROUNDING
    assert (right.up.norm(dim=0) - ones).abs().max() < ROUNDING
    assert (both.up.norm(dim=0) / both.down.norm(dim=1) - ones).abs().max() < ROUNDING


@pytest.mark.parametrize("rank", [1, 10, D])
def test_block_identity_saves_the_square_of_the_rank(rank: int) -> None:
    """Numbers and multiplications are r (n + d) - r^2 where two dense factors have r (n + d)."""
    up, down = factors(rank)
    dense, block = apply_junction(up, down, "left"), block_identity(up, down)
    assert dense.parameters - block.parameters == rank**2
    assert block.parameters == rank * (N + D) - rank**2
    assert sorted([*block.pivots.tolist(), *block.others.tolist()]) == list(range(D))
    x = torch.randn(7, D, dtype=torch.float64)
    with FlopCounterMode(display=False) as dense_work:
        dense.apply(x)
    with FlopCounterMode(display=False) as block_work:
        block.apply(x)
    # the counter counts a multiplication and an addition as two
    assert dense_work.get_total_flops() - block_work.get_total_flops() == 2 * 7 * rank**2
    assert block_work.get_total_flops() == 2 * 7 * block.parameters


def test_block_identity_rounds_like_two_dense_factors() -> None:
    """In float32 its output is as near to the exact one as that of the dense factors, within a factor of 4,
    whose own distance is some float32 roundings of the largest output."""
    up, down = factors(96, n=256, d=192)
    block, dense = block_identity(up, down), Dense(up, down)
    x = torch.randn(64, 192, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = x @ (up @ down).T
    short = BlockIdentity(block.up.float(), block.rest.float(), block.pivots, block.others)
    plain = Dense(dense.up.float(), dense.down.float())
    block_error = float((short.apply(x.float()) - exact).abs().max() / exact.abs().max())
    dense_error = float((plain.apply(x.float()) - exact).abs().max() / exact.abs().max())
    assert block_error < 4 * dense_error
    assert block_error < 1e-5


@pytest.mark.parametrize("kind", ["graded", "kahan", "parallel", "random"])
def test_entries_of_the_rest_are_bounded(kind: str) -> None:
    """Whatever the columns look like: of very different sizes, nearly parallel, or those of Kahan's matrix,
    where elimination picks the columns in order and leaves entries that grow with each, to 2e5."""
    draw, rank, width = torch.Generator().manual_seed(0), 40, 60
    down = torch.randn(rank, width, generator=draw, dtype=torch.float64)
    if kind == "graded":
        down = down * torch.logspace(3, -3, width, dtype=torch.float64)
    if kind == "parallel":
        down = down[:, :1] + 1e-4 * down
    if kind == "kahan":
        upper = torch.eye(rank, width, dtype=torch.float64) - 0.4 * torch.ones(rank, width).double().triu(1)
        down = (1 - 0.4**2) ** (torch.arange(rank, dtype=torch.float64) / 2)[:, None] * upper
    up = torch.randn(8, rank, generator=draw, dtype=torch.float64)
    block = block_identity(up, down)
    assert block.rest.abs().max() < 1.1 * (1 + 1e-6)
    assert (block.product() - up @ down).abs().max() < 1e-8 * (up.abs().max() * down.abs().max())


def test_rows_that_repeat_are_no_obstacle() -> None:
    """A `down` of lower rank than it has rows (inputs that never vary) still has an identity block."""
    up, down = factors(6)
    twice = torch.cat([down, down[:2]])
    wide = torch.cat([up, up[:, :2]], dim=1)
    block = block_identity(wide, twice)
    assert block.rest.shape == (8, D - 8)
    assert (block.product() - wide @ twice).abs().max() < ROUNDING * wide.abs().max()


def test_more_rows_than_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="rank 5 is more than the 4 inputs"):
        apply_junction(torch.ones(3, 5), torch.ones(5, 4), "block-identity")
