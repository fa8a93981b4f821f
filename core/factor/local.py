# SPDX-License-Identifier: Apache-2.0
"""Local activation-aware factors of one matrix: W ~ U D, every rank from one decomposition.

LatentLLM, arXiv 2505.18413, section 3 (its text was not at hand; derived and tested here): of all W' of rank
r the minimum of ||G^{1/2} (W - W') P||_F is the truncated SVD of G^{1/2} W P, by Eckart and Young.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.factor.metrics import root

# float32 SVD leaves 1e-6 of the largest singular value in directions that are exactly zero
WORK = torch.float64
# relative size of what rounding leaves of nothing
_NOISE = 1e-14


@dataclass(frozen=True)
class LowRank:
    """Every rank of one factorisation: up (n, m) and down (m, d), most important first, float64.

    squares (m): what each further rank takes off the squared error in the metrics, falling.
    """

    up: Tensor
    down: Tensor
    squares: Tensor

    def at(self, rank: int) -> tuple[Tensor, Tensor]:
        """(up (n, r), down (r, d)) of the best approximation of rank `rank`."""
        return self.up[:, :rank], self.down[:rank]

    def tail(self, rank: int) -> float:
        """The squared error that rank `rank` leaves, in the metrics."""
        return float(self.squares[rank:].sum())


def local_factors(matrix: Tensor, inputs: Tensor, output_weight: Tensor | None = None) -> LowRank:
    """Factors whose every truncation minimises ||G^{1/2} (W - up down) P||_F.

    matrix W (n, d); inputs P (d, d) symmetric, as the choices of factor.input give it; output_weight G
    (n, n), or its diagonal (n), or None for G = I. With G^{1/2} W P = U S V^T the optimum is
    down = V_r^T P^{-1} and up = W P V_r. A direction that P does not see stays out of `down`.
    """
    matrix = matrix.to(WORK)
    preconditioned = matrix @ inputs
    _, singular, vt = torch.linalg.svd(_weighed(preconditioned, output_weight), full_matrices=False)
    up, down = normalised(preconditioned @ vt.T, vt @ torch.linalg.pinv(inputs, hermitian=True))
    return LowRank(up, down, singular.square())


def gram_factors(matrix: Tensor, squared: Tensor, output_weight: Tensor | None = None) -> LowRank:
    """The factors of `local_factors` from P P^T alone, `squared` (d, d): an eigenproblem of the smaller side.

    At 576 x 1536 it takes a tenth of the time, as neither P nor its inverse is made. With U the
    eigenvectors of G^{1/2} W P P^T W^T G^{1/2}, down = U^T G^{1/2} W. What is smaller than 1e-8 of the
    largest singular value is lost in rounding.
    """
    matrix, squared = matrix.to(WORK), squared.to(WORK)
    if len(matrix) <= matrix.shape[1]:
        weighed = _weighed(matrix, output_weight)
        values, vectors = torch.linalg.eigh(weighed @ squared @ weighed.T)
        down = vectors.T @ weighed
        up = matrix @ squared @ down.T / values.clamp_min(_NOISE * values[-1])
    else:
        sizes, axes = torch.linalg.eigh(squared)
        sizes = sizes.clamp_min(0).sqrt()
        half = axes * sizes
        values, vectors = torch.linalg.eigh(half.T @ _seen(matrix, output_weight) @ half)
        inverse = torch.where(sizes > _NOISE * sizes[-1], 1 / sizes, torch.zeros_like(sizes))
        up, down = matrix @ half @ vectors, (vectors.T * inverse) @ axes.T
    up, down = normalised(up.flip(1), down.flip(0))
    return LowRank(up, down, values.flip(0).clamp_min(0))


def normalised(up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """The same product with rows of `down` of length one, their largest entry positive.

    So a latent keeps the scale of the inputs, and equal inputs give equal bytes whatever signs an SVD chose.
    """
    length = down.norm(dim=1, keepdim=True).clamp_min(torch.finfo(WORK).tiny)
    largest = down.abs().argmax(dim=1, keepdim=True)
    scale = torch.where(down.gather(1, largest) < 0, -length, length)
    return up * scale.T, down / scale


def _seen(matrix: Tensor, output_weight: Tensor | None) -> Tensor:
    """matrix^T G matrix, without the root of G, which may be the larger side."""
    if output_weight is not None and output_weight.ndim == 2:
        return matrix.T @ output_weight.to(WORK) @ matrix
    weighed = _weighed(matrix, output_weight)
    return weighed.T @ weighed


def _weighed(matrix: Tensor, output_weight: Tensor | None) -> Tensor:
    """G^{1/2} matrix."""
    if output_weight is None:
        return matrix
    if output_weight.ndim == 1:
        return output_weight.to(WORK).clamp_min(0).sqrt()[:, None] * matrix
    return root(output_weight) @ matrix
