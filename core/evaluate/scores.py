# SPDX-License-Identifier: Apache-2.0
"""Two models on one window, token by token: what every comparison is summed from."""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.evaluate.perplexity import negative_log_likelihood, predictions
from core.evaluate.predictor import Predictor


@dataclass(frozen=True)
class TokenScores:
    """One window; every tensor is (context - 1,), on the CPU, for the tokens 1.. that are predicted.

    loss_base, loss: negative log-likelihood in nats. divergence: KL(base || converted) in nats. agrees: the
    most likely token is the same.
    """

    loss_base: Tensor
    loss: Tensor
    divergence: Tensor
    agrees: Tensor


def score(window: Tensor, base: Predictor, converted: Predictor) -> TokenScores:
    """Run both over `window` (context,); only a block of positions' logits exists at a time."""
    rows = [
        (
            negative_log_likelihood(targets, log_p),
            negative_log_likelihood(targets, log_q),
            (log_p.exp() * (log_p - log_q)).sum(dim=-1),
            log_p.argmax(dim=-1) == log_q.argmax(dim=-1),
        )
        for targets, log_p, log_q in predictions(window, base, converted)
    ]
    return TokenScores(*(torch.cat(column).cpu() for column in zip(*rows, strict=True)))
