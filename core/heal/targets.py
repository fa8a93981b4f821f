# SPDX-License-Identifier: Apache-2.0
"""What the teacher says of some windows: its most likely tokens, and all the others as one."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# what makes the mass of the rest of float32 probabilities that add up to 1 but for rounding
_LEAST = 1e-7


@dataclass(frozen=True)
class Targets:
    """Distributions over k + 1 classes, of every position of some windows (n, t).

    index: (n, t, k) int, the k most likely tokens. log_p: (n, t, k) their log-probabilities at the
    temperature. log_rest: (n, t) of all others together, -inf when k is the vocabulary. loss: (n, t - 1) the
    teacher's own negative log-likelihood of the next token, at temperature 1.
    """

    index: Tensor
    log_p: Tensor
    log_rest: Tensor
    loss: Tensor

    def normalised(self) -> "Targets":
        """With classes that add up to 1 in float32, which stored ones do but for their rounding."""
        whole = torch.cat((self.log_p.float(), self.log_rest.float()[..., None]), dim=-1).log_softmax(-1)
        return Targets(self.index.long(), whole[..., :-1], whole[..., -1], self.loss.float())

    def rows(self, rows: slice) -> "Targets":
        """Those of some windows."""
        return Targets(self.index[rows], self.log_p[rows], self.log_rest[rows], self.loss[rows])

    def to(self, device: torch.device) -> "Targets":
        return Targets(*(one.to(device) for one in (self.index, self.log_p, self.log_rest, self.loss)))


def joined(parts: Sequence[Targets]) -> Targets:
    """One after the other."""
    fields = ("index", "log_p", "log_rest", "loss")
    return Targets(*(torch.cat([getattr(part, name) for part in parts]) for name in fields))


def top_k(logits: Tensor, k: int, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """(index, log_p, log_rest) of logits (rows, vocabulary), float32; k at most the vocabulary."""
    log_p = (logits / temperature).log_softmax(-1)
    best, index = log_p.topk(k, dim=-1)
    if k == logits.shape[-1]:
        return index, best, torch.full_like(best[:, 0], -torch.inf)
    # a sum of what is left would be exact too, at the price of another pass over the vocabulary
    rest = (1 - best.exp().sum(-1)).clamp_min(_LEAST)
    return index, best, rest.log()
