# SPDX-License-Identifier: Apache-2.0
"""Low rank plus a few single entries: W ~ U D + S, both fitted in the metric of the activations.

LatentLLM, arXiv 2505.18413, names the option (as robust PCA has it); derived and tested here. Minimised is
||G^{1/2} (W - U D - S) P||_F^2 with at most k entries in S, G diagonal. For a given S the best U D are local
factors of W - S; for a given support every row of S is a least-squares problem of its own. The support is the
k entries that would gain most one by one after a gradient step, a few times over (hard thresholding pursuit,
Foucart 2011). No polynomial method finds the best one, so two starts are tried, low rank first and entries
first, and a sweep is kept only if it loses less.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.factor.local import local_factors

WORK = torch.float64
# relative to the mean square of the inputs: rows whose entries are read by the same inputs stay solvable
_FLOOR = 1e-12
_STEPS = 5


@dataclass(frozen=True)
class Sparse:
    """A sparse matrix by rows: the entries of row i are values[starts[i]:starts[i + 1]].

    values (k), columns (k) int32, ascending within a row, starts (n + 1) int32; width is d.
    """

    values: Tensor
    columns: Tensor
    starts: Tensor
    width: int

    @classmethod
    def of(cls, matrix: Tensor) -> "Sparse":
        """The entries of `matrix` (n, d) that are not zero."""
        rows, columns = matrix.nonzero(as_tuple=True)
        counts = torch.bincount(rows, minlength=len(matrix))
        starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return cls(matrix[rows, columns], columns.int(), starts.int(), matrix.shape[1])

    def dense(self) -> Tensor:
        """The same matrix (n, d) with its zeros."""
        height = len(self.starts) - 1
        rows = torch.arange(height, device=self.values.device).repeat_interleave(self.starts.diff())
        found = self.values.new_zeros(height, self.width)
        found[rows, self.columns.long()] = self.values
        return found

    @property
    def bytes(self) -> int:
        """What the three tensors take."""
        return sum(
            tensor.numel() * tensor.element_size() for tensor in (self.values, self.columns, self.starts)
        )


@dataclass(frozen=True)
class LowRankPlusSparse:
    """W ~ up @ down + sparse.dense(), float64. losses: after the start and after every sweep, falling."""

    up: Tensor
    down: Tensor
    sparse: Sparse
    losses: tuple[float, ...]


def low_rank_plus_sparse(
    matrix: Tensor,
    inputs: Tensor,
    rank: int,
    nonzeros: int,
    output_weight: Tensor | None = None,
    *,
    sweeps: int = 10,
    tolerance: float = 1e-3,
) -> LowRankPlusSparse:
    """Factors of rank `rank` and at most `nonzeros` single entries for matrix W (n, d).

    inputs P (d, d) symmetric, output_weight the diagonal of G (n) or None. Ends after a sweep that takes less
    than `tolerance` of the loss away. Raises ValueError for more entries than W has.
    """
    if not 0 <= nonzeros <= matrix.numel():
        raise ValueError(f"{nonzeros} entries of a matrix that has {matrix.numel()}")
    matrix = matrix.to(WORK)
    weight = matrix.new_ones(len(matrix)) if output_weight is None else output_weight.to(WORK)
    moments = inputs @ inputs

    def descended(kept: Tensor) -> LowRankPlusSparse:
        up, down = local_factors(matrix - kept, inputs, weight).at(rank)
        losses = [_loss(matrix - kept - up @ down, moments, weight)]
        while nonzeros and len(losses) <= sweeps:
            entries = best_entries(matrix - up @ down, moments, nonzeros, weight, kept)
            factors = local_factors(matrix - entries, inputs, weight).at(rank)
            loss = _loss(matrix - factors[0] @ factors[1] - entries, moments, weight)
            if loss >= losses[-1]:
                break
            kept, (up, down) = entries, factors
            losses.append(loss)
            if losses[-2] - losses[-1] <= tolerance * losses[-2]:
                break
        return LowRankPlusSparse(up, down, Sparse.of(kept), tuple(losses))

    nothing = torch.zeros_like(matrix)
    starts = [nothing]
    if nonzeros:
        starts.append(best_entries(matrix, moments, nonzeros, weight))
    return min((descended(start) for start in starts), key=lambda found: found.losses[-1])


def best_entries(
    residual: Tensor, moments: Tensor, nonzeros: int, weight: Tensor, start: Tensor | None = None
) -> Tensor:
    """S (n, d) with at most `nonzeros` entries for ||G^{1/2} (E - S) C^{1/2}||, E the residual (n, d).

    moments C (d, d), weight the diagonal of G (n). Where C is diagonal it is the best there is; else the best
    support met in a few gradient steps from `start` (or zero), with the best values on it.
    """
    scale = moments.diagonal().clamp_min(torch.finfo(WORK).tiny)
    found = torch.zeros_like(residual) if start is None else start
    best, least = found, _loss(residual - found, moments, weight)
    for _ in range(_STEPS):
        stepped = found + (residual - found) @ moments / scale
        gain = (weight[:, None] * stepped.square() * scale).flatten()
        chosen = torch.zeros(residual.numel(), dtype=torch.bool, device=residual.device)
        chosen[gain.topk(nonzeros).indices] = True
        found = _fitted(residual, moments, chosen.view_as(residual))
        loss = _loss(residual - found, moments, weight)
        if loss >= least:
            break
        best, least = found, loss
    return best


def _fitted(residual: Tensor, moments: Tensor, support: Tensor) -> Tensor:
    """For each row e the s on its support with the least (e - s) C (e - s)^T: C_oo s = (C e)_o."""
    seen = residual @ moments
    floor = _FLOOR * moments.diagonal().mean()
    found = torch.zeros_like(residual)
    for row, chosen in enumerate(support):
        at = chosen.nonzero().flatten()
        if len(at):
            square = moments[at[:, None], at[None]] + floor * torch.eye(len(at)).to(moments)
            found[row, at] = torch.linalg.solve(square, seen[row, at])
    return found


def _loss(residual: Tensor, moments: Tensor, weight: Tensor) -> float:
    """||G^{1/2} E C^{1/2}||^2."""
    return float((weight[:, None] * (residual @ moments) * residual).sum())
