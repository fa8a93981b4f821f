# SPDX-License-Identifier: Apache-2.0
"""Perplexity: exp of the mean negative log-likelihood over non-overlapping windows."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from core.errors import TextError
from core.evaluate.predictor import Predictor, WholeModel

# Log-probabilities are taken in float64: in float32 the sum over a 49152-word vocabulary leaves about 1e-7,
# as much as the divergence of an exact conversion that is to be told from zero.
WORK = torch.float64
# positions whose logits exist at a time, in WORK: 25 MB for a vocabulary of 49152
ROWS = 64

OnWindow = Callable[[int, int], None]


def cut_windows(token_ids: Tensor, context: int, count: int) -> Tensor:
    """The first `count` non-overlapping windows of `context` tokens: (n,) -> (count, context).

    Raises TextError when the text has fewer tokens than that.
    """
    need = context * count
    if context < 2 or count < 1:
        raise TextError(
            f"{count} windows of {context} tokens predict nothing", hint="use at least 1 window of 2 tokens"
        )
    if token_ids.numel() < need:
        raise TextError(
            f"the text has {token_ids.numel()} tokens, {count} windows of {context} need {need}",
            hint="give a longer text, or use fewer or shorter windows",
            field="text",
        )
    return token_ids[:need].view(count, context)


def predictions(window: Tensor, *predictors: Predictor) -> Iterator[tuple[Tensor, ...]]:
    """(targets, log-probabilities of each predictor) of tokens 1.. of `window`, ROWS positions at a time.

    Everything is yielded on the device of the first predictor.
    """
    hidden = [predictor.hidden(window)[:-1] for predictor in predictors]
    device = hidden[0].device
    targets = window[1:].to(device)
    for start in range(0, len(targets), ROWS):
        rows = slice(start, start + ROWS)
        logits = (one.logits(states[rows]) for one, states in zip(predictors, hidden, strict=True))
        yield targets[rows], *(part.to(device, WORK).log_softmax(dim=-1) for part in logits)


def negative_log_likelihood(targets: Tensor, log_probabilities: Tensor) -> Tensor:
    """Of every position; targets (n,), log_probabilities (n, vocabulary) -> (n,)."""
    return -log_probabilities.gather(1, targets[:, None])[:, 0]


def perplexity(
    model: Any, token_ids: Tensor, context: int, windows: int, on_window: OnWindow | None = None
) -> tuple[float, int]:
    """(perplexity, predicted tokens) of one model; context - 1 tokens are predicted in each window."""
    total, tokens = 0.0, 0
    predictor = WholeModel(model)
    for index, window in enumerate(cut_windows(token_ids, context, windows)):
        for targets, log_probabilities in predictions(window, predictor):
            total += float(negative_log_likelihood(targets, log_probabilities).sum())
            tokens += len(targets)
        if on_window:
            on_window(index + 1, windows)
    return exp_or_inf(total / tokens), tokens


def exp_or_inf(mean: float) -> float:
    """exp, with infinity instead of an error for a model that is broken beyond float64."""
    return math.exp(mean) if mean < 709 else math.inf
