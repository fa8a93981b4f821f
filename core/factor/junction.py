# SPDX-License-Identifier: Apache-2.0
"""Junction matrices: W' = (U J) (J^{-1} D) is the same matrix for every invertible J (r, r).

LatentLLM, arXiv 2505.18413, section 3. left, right and symmetric place the singular values and cost
r (n + d) numbers; block-identity spends the freedom of J on making one block of D an identity, which is
neither stored nor multiplied: r (n + d) - r^2, never more than the n d of W where n = d.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

WORK = torch.float64
# no entry of `rest` is larger, so x[pivots] + rest @ x[others] has the size of x and rounds like it; 1 would
# be the best submatrix there is and can take very many exchanges, 1.1 takes 0.8 s for 1000 of 2048 columns
_BOUND = 1.1


class Dense(NamedTuple):
    """W' x = up @ (down @ x): up (n, r), down (r, d)."""

    up: Tensor
    down: Tensor

    @property
    def parameters(self) -> int:
        """Numbers that are stored, and multiplications per token."""
        return self.up.numel() + self.down.numel()

    def product(self) -> Tensor:
        """W' (n, d)."""
        return self.up @ self.down

    def apply(self, x: Tensor) -> Tensor:
        """W' x for each row of x (tokens, d)."""
        return x @ self.down.T @ self.up.T


@dataclass(frozen=True)
class BlockIdentity:
    """W' x = up @ (x[pivots] + rest @ x[others]).

    up (n, r), rest (r, d - r); pivots (r) and others (d - r) are int64 and together every input once.
    """

    up: Tensor
    rest: Tensor
    pivots: Tensor
    others: Tensor

    @property
    def parameters(self) -> int:
        """Numbers that are stored (beside the r indices), and multiplications per token: r (n + d) - r^2."""
        return self.up.numel() + self.rest.numel()

    def product(self) -> Tensor:
        """W' (n, d)."""
        found = self.up.new_zeros(len(self.up), len(self.pivots) + len(self.others))
        found[:, self.pivots], found[:, self.others] = self.up, self.up @ self.rest
        return found

    def apply(self, x: Tensor) -> Tensor:
        """W' x for each row of x (tokens, d)."""
        return (x[:, self.pivots] + x[:, self.others] @ self.rest.T) @ self.up.T


def apply_junction(up: Tensor, down: Tensor, kind: str) -> Dense | BlockIdentity:
    """The factors up (n, r), down (r, d) in one of the forms of JUNCTION, float64, the same product."""
    return JUNCTION[kind](up.to(WORK), down.to(WORK))


def left(up: Tensor, down: Tensor) -> Dense:
    """J = I: rows of `down` have length one, sizes stand in `up`."""
    length = _lengths(down.T)
    return Dense(up * length, down / length[:, None])


def right(up: Tensor, down: Tensor) -> Dense:
    """J = S^{-1}: columns of `up` have length one, sizes stand in `down`."""
    length = _lengths(up)
    return Dense(up / length, down * length[:, None])


def symmetric(up: Tensor, down: Tensor) -> Dense:
    """J = S^{-1/2}: a column of `up` is as long as its row of `down`, the best for few bits."""
    ratio = (_lengths(up) / _lengths(down.T)).sqrt()
    return Dense(up / ratio, down * ratio[:, None])


def block_identity(up: Tensor, down: Tensor) -> BlockIdentity:
    """J = the r columns of `down` at the pivots, so that down = J [I, rest] with small entries in rest.

    Works on an orthonormal basis of the rows, so what `down` has of bad condition (or lacks of rank) ends in
    `up`. Raises ValueError when there are more rows than columns: then no r columns can be independent.
    """
    rank, width = down.shape
    if rank > width:
        raise ValueError(f"rank {rank} is more than the {width} inputs")
    basis, triangle = torch.linalg.qr(down.T)
    pivots = _dominant(basis)
    is_other = torch.ones(width, dtype=torch.bool, device=down.device)
    is_other[pivots] = False
    others = is_other.nonzero().flatten()
    square = basis[pivots]  # (r, r), transposed: rows of `basis` are columns of `down`
    rest = torch.linalg.solve(square, basis[others], left=False).T
    return BlockIdentity(up @ triangle.T @ square.T, rest.contiguous(), pivots, others)


def _dominant(basis: Tensor) -> Tensor:
    """r rows of basis (d, r), ascending, by which every other row can be written with entries <= _BOUND.

    LU with row pivoting picks the first ones; then the largest entry e > _BOUND names a row to exchange,
    which makes the determinant |e| times larger, so it ends (maxvol: Goreinov et al., How to find a good
    submatrix; the same exchange as in the strong rank-revealing QR of Gu and Eisenstat). LU alone, and
    pivoted QR alone, can leave entries that grow with 2^r: 2e5 in Kahan's matrix with 40 rows.
    """
    width, rank = basis.shape
    order = torch.arange(width, device=basis.device)
    for row, chosen in enumerate(torch.linalg.lu_factor(basis).pivots.tolist()):
        order[[row, chosen - 1]] = order[[chosen - 1, row]]
    chosen_rows = order[:rank].sort().values
    others = order[rank:].sort().values
    entries = torch.linalg.solve(basis[chosen_rows], basis[others], left=False)  # (d - r, r)
    while entries.numel():
        at = int(entries.abs().argmax())
        row, column = divmod(at, rank)
        entry = entries[row, column].clone()
        if entry.abs() <= _BOUND:
            break
        chosen_rows[column], others[row] = others[row].clone(), chosen_rows[column].clone()
        # the row that left is written by the new ones; every other row loses its share of it
        leaving = entries[row].clone()
        leaving[column] = entry - 1
        shares = entries[:, column] / entry
        entries -= shares[:, None] * leaving
        entries[row] = -leaving / entry
        entries[row, column] = 1 / entry
    return chosen_rows.sort().values


def _lengths(columns: Tensor) -> Tensor:
    """Norms of the columns; one where a column is nothing."""
    found = columns.norm(dim=0)
    return torch.where(found > 0, found, torch.ones_like(found))


JUNCTION: Mapping[str, Callable[[Tensor, Tensor], Dense | BlockIdentity]] = {
    "left": left,
    "right": right,
    "symmetric": symmetric,
    "block-identity": block_identity,
}
