# SPDX-License-Identifier: Apache-2.0
"""Take queries, keys and values out of what a family stores, in one layout for all families.

The canonical head has d_h/2 pairs (i, i + d_h/2), the rotary ones first: pair f rotates by inv_freq[f], and a
frequency of zero rotates by nothing. A family that rotates the first r dims of a head, as pairs (i, i + r/2),
has its query and key dims reordered within each head; scores are sums over dims, so nothing changes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from core.arch import Architecture
from core.facts import ModelFacts


class Projections:
    """The query, key and value projections of one family at one size."""

    def __init__(self, family: Architecture, facts: ModelFacts) -> None:
        self.names = family.projections
        self._fused = family.fused
        self._heads, self._kv_heads, self._head_dim = facts.heads, facts.kv_heads, facts.head_dim
        self._order = canonical_order(facts.head_dim, facts.rotary_dim)

    def split(self, parts: Sequence[Tensor], dim: int = -1) -> tuple[Tensor, Tensor, Tensor]:
        """(q, k, v) of what the modules `names` hold or give; `dim` is that of the output channels.

        Linear: the gradients at the modules' outputs give the gradients at q, k and v.
        """
        query, key, value = parts if self._fused is None else self._unfused(parts[0], dim)
        return self._canonical(query, dim), self._canonical(key, dim), value

    def _unfused(self, fused: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
        head_dim, keys = self._head_dim, self._kv_heads * self._head_dim
        if self._fused is not None and self._fused.by_head:
            by_head = fused.unflatten(dim, (self._heads, 3, head_dim)).movedim(
                dim - 1 if dim < 0 else dim + 1, 0
            )
            start = dim - 1 if dim < 0 else dim
            query, key, value = (part.flatten(start, start + 1) for part in by_head)
            return query, key, value
        query, key, value = fused.split((self._heads * head_dim, keys, keys), dim=dim)
        return query, key, value

    def _canonical(self, rows: Tensor, dim: int) -> Tensor:
        if self._order is None:
            return rows
        heads = torch.arange(rows.shape[dim] // self._head_dim)[:, None] * self._head_dim
        return rows.index_select(dim, (heads + self._order).flatten().to(rows.device))


def canonical_order(head_dim: int, rotary_dim: int) -> Tensor | None:
    """Where each dim of a canonical head stands in the family's; None when every one stays."""
    if rotary_dim in (0, head_dim):
        return None
    rotary, other = torch.arange(rotary_dim), torch.arange(rotary_dim, head_dim)
    return torch.cat([part for pair in zip(rotary.chunk(2), other.chunk(2), strict=True) for part in pair])
