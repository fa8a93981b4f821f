# SPDX-License-Identifier: Apache-2.0
"""How much each rotary pair contributes to attention, measured on text (MHA2MLA, section 3.1)."""

import torch
from torch import Tensor

WORK = torch.float64  # sums over many tokens; float32 would lose the small norms


class PairNorms:
    """Running means of |q_f| and |k_f| over tokens, one value per head and rotary pair.

    Norms are taken before RoPE, which leaves the length of a pair unchanged.
    """

    def __init__(self, heads: int, kv_heads: int, head_dim: int) -> None:
        self._query = torch.zeros(heads, head_dim // 2, dtype=WORK)
        self._key = torch.zeros(kv_heads, head_dim // 2, dtype=WORK)
        self._tokens = 0

    def add(self, query: Tensor, key: Tensor) -> None:
        """Add projections of one batch: query (tokens, n_h * d_h), key (tokens, n_kv * d_h)."""
        self._tokens += query.shape[0]
        for total, states in ((self._query, query), (self._key, key)):
            halves = states.view(states.shape[0], total.shape[0], 2, total.shape[1])
            total += halves[:, :, 0].hypot(halves[:, :, 1]).sum(dim=0, dtype=WORK).cpu()

    def contribution(self) -> Tensor:
        """(n_kv, d_h/2): E|k_f| times the sum over the group's query heads of E|q_f|.

        Cauchy-Schwarz bounds the pair's share of the logit by |q_f| |k_f| (MHA2MLA, eq. 5); the published
        code takes the product of means and sums it over the query heads of a group.
        """
        kv_heads, pairs = self._key.shape
        query = self._query.view(kv_heads, -1, pairs).sum(dim=1) / max(self._tokens, 1)
        return query * self._key / max(self._tokens, 1)
