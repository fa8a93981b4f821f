# SPDX-License-Identifier: Apache-2.0
"""The loss at the output head: KL(teacher || student) over k + 1 classes, and the text's own next token.

With p the teacher, q the student, K the stored tokens and r all others as one class,

    KL = sum_K p (log p - log q) + p_r (log p_r - log q_r),     q_r = sum of q outside K

so it is 0 exactly where both agree on the k + 1 classes, and the whole KL when k is the vocabulary. At
temperature T both are softmax(z / T) and the loss is multiplied by T^2, which keeps the size of gradients.
The gradient at the logits is known in closed form, so logits exist for a few rows at a time:

    T (q - p) inside K,     T q (1 - p_r / q_r) outside.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core.weights.head import Head

# rows whose logits exist at a time: 25 MB in float32 for a vocabulary of 49152
ROWS = 128
_LEAST = 1e-7


@dataclass(frozen=True)
class Wanted:
    """What the rows of hidden states are compared with.

    index, log_p: (rows, k), log_rest: (rows,); see Targets. next_token: (rows,), -1 where there is none.
    """

    index: Tensor
    log_p: Tensor
    log_rest: Tensor
    next_token: Tensor

    def part(self, rows: slice) -> "Wanted":
        return Wanted(self.index[rows], self.log_p[rows], self.log_rest[rows], self.next_token[rows])


@dataclass(frozen=True)
class Mixture:
    """share of cross-entropy in the loss, and the temperature of the KL divergence."""

    cross_entropy: float = 0.0
    temperature: float = 1.0


class HeadLoss(torch.autograd.Function):
    """Loss and gradient of all rows in one pass over blocks of logits; nothing of them is kept."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, head: Head, wanted: Wanted, mixture: Mixture
    ) -> tuple[Tensor, Tensor, Tensor]:
        """hidden: (rows, d); `weight` is the head's, named apart so that it can have a gradient.

        Returns (loss, KL, cross-entropy): sums over rows, in nats; only the loss has a gradient.
        """
        gradient = torch.empty_like(hidden, dtype=torch.float32)
        at_weight = torch.zeros_like(weight, dtype=torch.float32) if weight.requires_grad else None
        sums = hidden.new_zeros(3, dtype=torch.float32)
        for start in range(0, len(hidden), ROWS):
            rows = slice(start, start + ROWS)
            part = hidden[rows].to(weight.dtype)
            logits = head.logits(part).float()
            at_logits, found = _rows(logits, wanted.part(rows), mixture)
            if head.softcap is not None:
                at_logits = at_logits * (1 - (logits / head.softcap).square())
            at_logits = at_logits.to(weight.dtype)
            gradient[rows] = (at_logits @ weight).float()
            if at_weight is not None:
                at_weight += (at_logits.T @ part).float()
            sums += found
        ctx.save_for_backward(gradient, at_weight)
        ctx.dtypes = hidden.dtype, weight.dtype
        loss, kl, loss_of_text = sums
        ctx.mark_non_differentiable(kl, loss_of_text)
        return loss, kl, loss_of_text

    @staticmethod
    def backward(ctx: Any, *at: Tensor) -> tuple[Tensor | None, ...]:
        gradient, at_weight = ctx.saved_tensors
        of_hidden, of_weight = ctx.dtypes
        second = None if at_weight is None else (at_weight * at[0]).to(of_weight)
        return (gradient * at[0]).to(of_hidden), second, None, None, None


def _rows(logits: Tensor, wanted: Wanted, mixture: Mixture) -> tuple[Tensor, Tensor]:
    """(gradient at the logits (rows, vocabulary), sums of loss, KL and cross-entropy)."""
    warmth, share = mixture.temperature, mixture.cross_entropy
    log_q = (logits if warmth == 1 else logits / warmth).log_softmax(-1)
    q = log_q.exp()
    log_in, q_in = log_q.gather(1, wanted.index), q.gather(1, wanted.index)
    p, p_rest = wanted.log_p.exp(), wanted.log_rest.exp()
    is_whole = wanted.index.shape[1] == logits.shape[1]
    q_rest = (1 - q_in.sum(-1)).clamp_min(_LEAST)
    kl = (p * (wanted.log_p - log_in)).sum(-1)
    if not is_whole:
        kl = kl + p_rest * (wanted.log_rest - q_rest.log())
    text, has_next = _of_text(logits if warmth != 1 else None, log_q, wanted.next_token)
    loss_of_text = -text.gather(1, wanted.next_token.clamp_min(0)[:, None])[:, 0] * has_next
    size = (1 - share) * warmth
    gradient = q if is_whole else q.mul_((1 - p_rest / q_rest)[:, None])
    gradient.scatter_(1, wanted.index, q_in - p).mul_(size)
    if share:
        pull = text.exp()
        pull.scatter_add_(1, wanted.next_token.clamp_min(0)[:, None], torch.full_like(pull[:, :1], -1.0))
        gradient += pull * (share * has_next)[:, None]
    total = (1 - share) * warmth**2 * kl.sum() + share * loss_of_text.sum()
    return gradient, torch.stack((total, kl.sum(), loss_of_text.sum()))


def _of_text(logits: Tensor | None, log_q: Tensor, next_token: Tensor) -> tuple[Tensor, Tensor]:
    """(log-probabilities at temperature 1, 1 where there is a next token)."""
    return (log_q if logits is None else logits.log_softmax(-1)), (next_token >= 0).float()
