# SPDX-License-Identifier: Apache-2.0
"""Moments of the gradients at one layer's projections: what the backward pass keeps of it.

A new moment is one sum here and one field of LayerStatistics.
"""

import torch
from torch import Tensor

WORK = torch.float64  # sums over many tokens; the products of one batch are float32


class GradientMoments:
    """Running sums over tokens; g = [g_k; g_v] and g_q are gradients of the summed loss, before RoPE."""

    def __init__(self, width: int, heads: int, kv_heads: int, head_dim: int) -> None:
        both = 2 * kv_heads * head_dim
        self._heads = heads
        self._fisher = torch.zeros(both, both, dtype=WORK)
        self._query = torch.zeros(heads, head_dim, head_dim, dtype=WORK)
        self._input = torch.zeros(2, width, width, dtype=WORK)
        self._energy = torch.zeros(2, dtype=WORK)
        self._tokens = 0

    def add(self, x: Tensor, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Add one batch: inputs x (tokens, d), g_q (tokens, n_h d_h), g_k and g_v (tokens, n_kv d_h)."""
        gradient = torch.cat([key, value], dim=1)
        self._fisher += (gradient.T @ gradient).cpu().to(WORK)
        heads = query.view(query.shape[0], self._heads, -1).transpose(0, 1)
        self._query += (heads.transpose(1, 2) @ heads).cpu().to(WORK)
        for index, part in enumerate((key, value)):
            size = part.norm(dim=1)
            weighted = x * size[:, None]
            self._input[index] += (weighted.T @ weighted).cpu().to(WORK)
            self._energy[index] += size.square().sum().cpu().to(WORK)
        self._tokens += x.shape[0]

    def finish(self) -> dict[str, Tensor]:
        """The Fisher fields of LayerStatistics."""
        smallest = torch.finfo(WORK).tiny
        return {
            "fisher": self._fisher / self._tokens,
            "fisher_input": self._input / self._energy.clamp_min(smallest)[:, None, None],
            "fisher_query": self._query / self._tokens,
            "fisher_tokens": torch.tensor(self._tokens),
        }
