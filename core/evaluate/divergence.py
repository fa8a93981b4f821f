# SPDX-License-Identifier: Apache-2.0
"""How far a converted model is from its original, token by token, in one pass over the text."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from core.evaluate.perplexity import (
    OnWindow,
    blocks,
    cut_windows,
    exp_or_inf,
    negative_log_likelihood,
    window_logits,
)


@dataclass(frozen=True)
class Comparison:
    """Both models on the same text; kl_to_base is KL(base || converted), mean nats per predicted token."""

    perplexity_base: float
    perplexity: float
    tokens: int
    kl_to_base: float
    top1_agreement: float


def compare(
    base: Any,
    converted: Any,
    token_ids: Tensor,
    context: int,
    windows: int,
    on_window: OnWindow | None = None,
) -> Comparison:
    """Compare two models over the first `windows` windows of `context` tokens.

    Only one window's logits of each model are held at a time, but both models are resident: the memory
    bound of conversion (a couple of layers) does not hold here.
    """
    nll_base = nll = divergence = 0.0
    agreed = tokens = 0
    for index, window in enumerate(cut_windows(token_ids, context, windows)):
        logits_base = window_logits(base, window)
        logits = window_logits(converted, window).to(logits_base.device)
        for targets, log_p, log_q in blocks(window, logits_base, logits):
            nll_base += negative_log_likelihood(targets, log_p)
            nll += negative_log_likelihood(targets, log_q)
            divergence += float((log_p.exp() * (log_p - log_q)).sum())
            agreed += int((log_p.argmax(dim=-1) == log_q.argmax(dim=-1)).sum())
            tokens += len(targets)
        if on_window:
            on_window(index + 1, windows)
    return Comparison(
        perplexity_base=exp_or_inf(nll_base / tokens),
        perplexity=exp_or_inf(nll / tokens),
        tokens=tokens,
        kl_to_base=divergence / tokens,
        top1_agreement=agreed / tokens,
    )
