# SPDX-License-Identifier: Apache-2.0
"""Factors in 8 bits: symmetric integers and one scale for each row, rounded to the nearest."""

from dataclasses import dataclass

import torch
from torch import Tensor

# -128 is left out, so that a row and its negative are coded alike
_LARGEST = 127


@dataclass(frozen=True)
class Quantised:
    """matrix[i, j] ~ scales[i] * codes[i, j]: codes (n, d) int8 from -127 to 127, scales (n) float32 > 0."""

    codes: Tensor
    scales: Tensor

    def dense(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The matrix (n, d) it stands for."""
        return (self.codes.to(self.scales.dtype) * self.scales[:, None]).to(dtype)

    @property
    def bytes(self) -> int:
        """What the two tensors take."""
        return self.codes.numel() + self.scales.numel() * self.scales.element_size()


def quantise(matrix: Tensor) -> Quantised:
    """The largest entry of a row becomes 127; no entry moves by more than half a scale.

    A row of `up` is an output channel and one of `down` a latent channel, so a scale stays with what it
    scales. Raises ValueError for entries that are not finite.
    """
    if not torch.isfinite(matrix).all():
        raise ValueError("infinite or undefined entries cannot be quantised")
    largest = matrix.abs().amax(dim=1).double()
    scales = torch.where(largest > 0, largest / _LARGEST, torch.ones_like(largest)).float()
    codes = (matrix.double() / scales.double()[:, None]).round().clamp(-_LARGEST, _LARGEST)
    return Quantised(codes.to(torch.int8), scales)
