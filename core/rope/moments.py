# SPDX-License-Identifier: Apache-2.0
"""Second moments of rotary pairs, straight from the moments of the inputs.

A rotary pair is one complex number, k_f = k[f] + i k[f + d_h/2] in the half-split layout, and RoPE multiplies
it by e^{i p theta_f}. Keys are linear in x, so E[k_f k_f^H] = W_f E[x x^T] W_f^H is exact: no pass over
tokens is needed, and the moments of mixed or biased keys follow from the same two input moments.
"""

import torch
from torch import Tensor

from core.rope.pairs import to_pairs

WORK = torch.float64


def pair_moments(
    weight: Tensor, covariance: Tensor, heads: int, bias: Tensor | None = None, mean: Tensor | None = None
) -> Tensor:
    """E[k_f k_f^H] for every rotary pair f, across heads: complex (d_h/2, n, n), Hermitian.

    weight: (n * d_h, d); covariance: (d, d) = E[x x^T], not centred; bias: (n * d_h), needs mean (d) = E[x].
    """
    weight, covariance = weight.to(WORK), covariance.to(weight.device, WORK)
    # (d_h/2, 2n, d): the heads' first halves, then their second halves
    rows = weight.view(heads, 2, -1, weight.shape[1]).permute(2, 1, 0, 3).flatten(1, 2)
    moments = rows @ covariance @ rows.transpose(1, 2)
    if bias is not None:
        if mean is None:
            raise ValueError("the moments of biased projections need the mean of the inputs")
        offset = bias.to(WORK).view(heads, 2, -1).permute(2, 1, 0).flatten(1)[:, :, None]
        centre = rows @ mean.to(weight.device, WORK)[:, None]
        cross = centre @ offset.transpose(1, 2)
        moments = moments + cross + cross.transpose(1, 2) + offset @ offset.transpose(1, 2)
    real, imaginary = moments[:, :heads], moments[:, heads:]
    return torch.complex(
        real[:, :, :heads] + imaginary[:, :, heads:], imaginary[:, :, :heads] - real[:, :, heads:]
    )


def cross_pair_moments(weight: Tensor, covariance: Tensor, heads: int) -> Tensor:
    """E[k k^H] between all pairs and heads, pair-major: complex (d_h/2 * n, d_h/2 * n), Hermitian."""
    rows = to_pairs(weight, heads).flatten(0, 1)
    return rows @ covariance.to(rows) @ rows.mH
