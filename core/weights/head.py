# SPDX-License-Identifier: Apache-2.0
"""From the last norm to logits."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Head:
    """The output matrix (vocabulary, d), and what logits are bounded by where they are (Gemma 2)."""

    weight: Tensor
    softcap: float | None = None

    def logits(self, normed: Tensor) -> Tensor:
        """(…, d) -> (…, vocabulary): W x, or c tanh(W x / c)."""
        found = torch.nn.functional.linear(normed, self.weight)
        return found if self.softcap is None else self.softcap * torch.tanh(found / self.softcap)

    def backward(self, gradient: Tensor, logits: Tensor) -> Tensor:
        """The gradient at the normed states (…, d), from that at `logits` (…, vocabulary)."""
        if self.softcap is not None:
            gradient = gradient * (1 - (logits / self.softcap).square())
        return gradient @ self.weight
