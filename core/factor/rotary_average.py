# SPDX-License-Identifier: Apache-2.0
"""What RoPE between two factors does to second moments, averaged over the offsets attention looks at.

R_D is the rotation between a query and the key D positions before it: in the half-split layout it multiplies
pair f, x[f] + i x[f + h/2], by e^{-i D theta_f}. In the basis of pairs and their conjugates R_D is diagonal,
so S -> sum_D p(D) R_D S R_D^T is an entrywise product with characteristic functions of p at sums and
differences of frequencies: its cost does not grow with the window.
"""

import torch
from torch import Tensor

WORK = torch.float64


class RotaryAverage:
    """For each head i: S_i -> sum_D p_i(D) R_D S_i R_D^T, and the same with R_D^T in the place of R_D.

    inv_freq (h/2), or (n_h, h/2) where heads differ, turns the first h of the d_h channels of a head, the
    others do not turn (h < d_h: partial rotary; None: no positions). mass (n_h, window) or (window):
    p_i(D) >= 0 for D = 0, 1, …
    """

    def __init__(self, inv_freq: Tensor | None, mass: Tensor, head_dim: int) -> None:
        weights = mass.to(WORK).view(-1, mass.shape[-1])
        turning = weights.new_zeros(1, 0) if inv_freq is None else inv_freq.to(weights)
        turning = turning if turning.ndim == 2 else turning[None]
        still = head_dim - 2 * turning.shape[1]
        phases = torch.cat([turning, -turning, weights.new_zeros(len(turning), still)], dim=1)
        offsets = torch.arange(weights.shape[1], dtype=WORK, device=weights.device)
        angles = -offsets[:, None] * phases[:, None]
        turns = torch.polar(torch.ones_like(angles), angles)
        # (n_h, d_h, d_h): sum_D p(D) e^{-i D (phase_a - phase_b)}
        self._factors = torch.einsum("hw,hwa,hwb->hab", weights.to(turns), turns, turns.conj())
        self._basis = _pairs(head_dim, (head_dim - still) // 2).to(self._factors)

    def turned(self, moments: Tensor) -> Tensor:
        """(n_h, d_h, d_h) -> sum_D p(D) R_D S R_D^T: moments of keys as a query sees them."""
        return self._mixed(moments, self._factors)

    def turned_back(self, moments: Tensor) -> Tensor:
        """(n_h, d_h, d_h) -> sum_D p(D) R_D^T S R_D: moments of queries as a key sees them."""
        return self._mixed(moments, self._factors.conj())

    def _mixed(self, moments: Tensor, factors: Tensor) -> Tensor:
        basis = self._basis
        return (basis.mH @ (factors * (basis @ moments.to(basis) @ basis.mH)) @ basis).real


def _pairs(head_dim: int, pairs: int) -> Tensor:
    """Unitary (d_h, d_h): the first 2 * pairs channels to (a + i b) / sqrt 2 and their conjugates."""
    found = torch.eye(head_dim, dtype=torch.complex128)
    first, second = torch.arange(pairs), torch.arange(pairs) + pairs
    half = 0.5**0.5
    found[first, first], found[first, second] = half, half * 1j
    found[second, first], found[second, second] = half, -half * 1j
    return found
