# SPDX-License-Identifier: Apache-2.0
"""How far a converted model is from its original, in one pass over the text."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from core.evaluate.perplexity import OnWindow, cut_windows, exp_or_inf
from core.evaluate.predictor import Predictor, WholeModel
from core.evaluate.scores import TokenScores, score


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
    on_scores: Callable[[TokenScores], None] | None = None,
) -> Comparison:
    """Compare two models over the first `windows` windows of `context` tokens.

    `on_scores` is given every window's scores. Both models are resident: the memory bound of conversion (a
    couple of layers) does not hold here.
    """
    return compare_predictors(
        WholeModel(base), WholeModel(converted), token_ids, context, windows, on_window, on_scores
    )


def compare_predictors(
    base: Predictor,
    converted: Predictor,
    token_ids: Tensor,
    context: int,
    windows: int,
    on_window: OnWindow | None = None,
    on_scores: Callable[[TokenScores], None] | None = None,
) -> Comparison:
    """`compare` for models that are not both in memory, such as an original whose states were recorded."""
    loss_base = loss = divergence = 0.0
    agreed = tokens = 0
    for index, window in enumerate(cut_windows(token_ids, context, windows)):
        scores = score(window, base, converted)
        loss_base += float(scores.loss_base.sum())
        loss += float(scores.loss.sum())
        divergence += float(scores.divergence.sum())
        agreed += int(scores.agrees.sum())
        tokens += len(scores.loss)
        if on_scores:
            on_scores(scores)
        if on_window:
            on_window(index + 1, windows)
    return Comparison(
        perplexity_base=exp_or_inf(loss_base / tokens),
        perplexity=exp_or_inf(loss / tokens),
        tokens=tokens,
        kl_to_base=divergence / tokens,
        top1_agreement=agreed / tokens,
    )
