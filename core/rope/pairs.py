# SPDX-License-Identifier: Apache-2.0
"""A rotary pair as one complex number, and what attention leaves of its rotation.

In the half-split layout pair f of a head is dims f and f + d_h/2: k_f = k[f] + i k[f + d_h/2]. RoPE
multiplies it by e^{i p theta_f}, and a head's score is the sum of
Re(conj(q_f) k_f e^{-i D theta_f}) over pairs, at distance D between query and key.
"""

import torch
from torch import Tensor

WORK = torch.float64


def to_pairs(rows: Tensor, heads: int) -> Tensor:
    """Rows (n * d_h, w) of a projection -> complex (d_h/2, n, w)."""
    halves = rows.to(WORK).view(heads, 2, -1, rows.shape[1])
    return torch.complex(halves[:, 0], halves[:, 1]).transpose(0, 1).contiguous()


def from_pairs(pairs: Tensor) -> Tensor:
    """Complex (d_h/2, n, w) -> real rows (n, d_h, w), the inverse of `to_pairs` up to its last view."""
    by_head = pairs.transpose(0, 1)
    return torch.cat([by_head.real, by_head.imag], dim=1)


def coherence(mass: Tensor, angles: Tensor) -> Tensor:
    """rho = E_D[e^{-i D theta}] over the distances attention looks at, complex.

    mass (…, context): probability by distance, rows sum to 1; returns mass.shape[:-1] + angles.shape.
    |rho| = 1 means that a constant can stand in for the rotation, 0 that it cannot.
    """
    distances = torch.arange(mass.shape[-1], dtype=WORK, device=mass.device)
    turns = distances[:, None] * angles.to(mass.device, WORK).flatten()[None]
    found = torch.complex(mass.to(WORK) @ turns.cos(), -(mass.to(WORK) @ turns.sin()))
    return found.view(*mass.shape[:-1], *angles.shape)


def rotation_energy(
    query_energy: Tensor, mass: Tensor, inv_freq: Tensor, kv_heads: int, fitted: bool
) -> Tensor:
    """How much logit energy the rotation of a pair carries per unit of key energy: (d_h/2, n_kv).

    sum over the query heads h of a KV head of E|q_hf|^2 E_D|e^{-i D theta_f} - c|^2, where c is what replaces
    the rotation: its best constant rho (`fitted`), which leaves 1 - |rho|^2, or 1, which leaves 2 - 2 Re rho.
    query_energy (n_h, d_h/2) = E|q_hf|^2; mass (n_h, context).
    """
    rho = coherence(mass, inv_freq)
    left = 1 - rho.abs().square() if fitted else 2 - 2 * rho.real
    # rounding takes 1 - |rho|^2 of a pair that does not turn below zero, and a root is taken of the sum
    return (query_energy * left.clamp_min(0)).view(kv_heads, -1, left.shape[1]).sum(dim=1).T
