# SPDX-License-Identifier: Apache-2.0
"""How one attention layer makes weights of the products of its queries and keys."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ScoreRule:
    """Scores are scaling * q.k, bounded to +-softcap where there is one (Gemma 2), and causal.

    With a window, a query sees the last `window` tokens, itself included.
    """

    scaling: float
    window: int | None = None
    softcap: float | None = None

    def capped(self, scores: Tensor) -> Tensor:
        """c tanh(s / c) of scores that are scaled already."""
        return scores if self.softcap is None else self.softcap * torch.tanh(scores / self.softcap)

    def slope(self, capped: Tensor) -> Tensor | float:
        """d capped / d score, from the capped scores: 1 - (capped / c)^2."""
        return 1.0 if self.softcap is None else 1 - (capped / self.softcap).square()

    def unseen(self, first: int, logits: Tensor) -> Tensor:
        """(B, S), of logits (n, B, S): keys that queries first, first + 1, … cannot see, later or too old."""
        every = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device)
        later = every.triu(first + 1)
        return later if self.window is None else later | every.tril(first - self.window)
