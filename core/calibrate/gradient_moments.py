# SPDX-License-Identifier: Apache-2.0
"""Moments of the gradients at one layer's projections: what the backward pass keeps of it.

A new moment is one sum here and one field of LayerStatistics.
"""

import torch
from torch import Tensor

WORK = torch.float64  # sums over many tokens; the products of one batch are float32


class GradientMoments:
    """Running sums over tokens; g = [g_k; g_v] are gradients of the summed loss, before RoPE."""

    def __init__(self, width: int, kv_heads: int, head_dim: int) -> None:
        both = 2 * kv_heads * head_dim
        self._fisher = torch.zeros(both, both, dtype=WORK)
        self._input = torch.zeros(2, width, width, dtype=WORK)
        self._mean = torch.zeros(2, width, dtype=WORK)
        self._energy = torch.zeros(2, dtype=WORK)
        self._tokens = 0

    def add(self, x: Tensor, key: Tensor, value: Tensor) -> None:
        """Add one batch: inputs x (tokens, d), g_k and g_v (tokens, n_kv d_h)."""
        gradient = torch.cat([key, value], dim=1)
        self._fisher += (gradient.T @ gradient).cpu().to(WORK)
        for index, part in enumerate((key, value)):
            size = part.norm(dim=1)
            weighted = x * size[:, None]
            self._input[index] += (weighted.T @ weighted).cpu().to(WORK)
            self._mean[index] += (weighted.T @ size).cpu().to(WORK)
            self._energy[index] += size.square().sum().cpu().to(WORK)
        self._tokens += x.shape[0]

    def finish(self) -> dict[str, Tensor]:
        """The Fisher fields of LayerStatistics."""
        smallest = torch.finfo(WORK).tiny
        return {
            "fisher": self._fisher / self._tokens,
            "fisher_input": self._input / self._energy.clamp_min(smallest)[:, None, None],
            "fisher_mean": self._mean / self._energy.clamp_min(smallest)[:, None],
            "fisher_tokens": torch.tensor(self._tokens),
        }
