# SPDX-License-Identifier: Apache-2.0
"""Factors in 8 bits are as near as 8 bits can be."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.factor.quantise import quantise


@given(seed=st.integers(0, 1000), size=st.floats(-20, 20), rows=st.integers(1, 5))
def test_no_entry_moves_by_more_than_half_a_scale(seed: int, size: float, rows: int) -> None:
    """Whatever the size of a row; a float32 scale adds 1e-7 of the largest entry."""
    draw = torch.Generator().manual_seed(seed)
    matrix = 10.0**size * torch.randn(rows, 9, generator=draw, dtype=torch.float64)
    found = quantise(matrix)
    scales = matrix.abs().amax(dim=1) / 127
    moved = (found.dense(torch.float64) - matrix).abs()
    assert (moved <= scales[:, None] * (0.5 + 1e-4)).all()
    assert int(found.codes.abs().max()) == 127
    assert found.codes.dtype == torch.int8


def test_what_has_been_quantised_stays() -> None:
    """Codes of a matrix that is codes times scales are those codes."""
    matrix = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    once = quantise(matrix)
    twice = quantise(once.dense())
    assert torch.equal(once.codes, twice.codes)
    assert (once.scales - twice.scales).abs().max() < 1e-7
    assert torch.equal(quantise(-matrix).codes, -once.codes)


def test_rows_of_zeros_and_bytes() -> None:
    """A row of zeros stays one; an entry is a byte and a row four more."""
    matrix = torch.zeros(3, 5)
    matrix[1] = torch.tensor([0.5, -1.0, 0.0, 0.25, 1.0])
    found = quantise(matrix)
    assert not found.dense()[[0, 2]].any()
    assert found.bytes == 15 + 12
    with pytest.raises(ValueError, match="infinite or undefined"):
        quantise(torch.tensor([[1.0, float("nan")]]))
