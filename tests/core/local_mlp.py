# SPDX-License-Identifier: Apache-2.0
"""An MLP with every projection factored on its own: where a refit starts from in the tests."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from core.factor.local import local_factors
from core.factor.metrics import root
from core.factor.mlp import MLP, WORK, Batches, Linear, reader_metrics, streamed


@dataclass(frozen=True)
class Ranks:
    """Widths of the latents of one MLP; None leaves a projection whole."""

    gate: int | None = None
    up: int | None = None
    down: int | None = None


def factored(
    original: MLP, batches: Batches, ranks: Ranks, *, damping: float = 1e-6, looks_behind: bool = True
) -> MLP:
    """Each projection as the best factors of its rank for its inputs on the calibration text.

    Readers are factored in their `reader_metrics`, or each output alike when not `looks_behind`. `damping`
    is added to the moments, relative to the mean of their diagonals. Biases are fitted where there are any:
    moments are centred, and b' = b + (W - W') mean.
    """
    inputs = _moments(streamed(original, batches))
    hidden = _moments(original.hidden(x) for x in streamed(original, batches))
    metrics = reader_metrics(original, batches) if looks_behind else {}

    def local(name: str, linear: Linear, rank: int | None) -> Linear:
        if rank is None:
            return linear
        moments = hidden if name == "down" else inputs
        return _local(linear, *moments, metrics.get(name), rank, damping)

    return replace(
        original,
        up=local("up", original.up, ranks.up),
        down=local("down", original.down, ranks.down),
        gate=None if original.gate is None else local("gate", original.gate, ranks.gate),
    )


def _moments(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """(E[x x^T], E[x]) in float64."""
    square, total, tokens = torch.zeros(()), torch.zeros(()), 0
    for x in batches:
        square = (x.T @ x).to(WORK) + square.to(x.device)
        total = x.sum(dim=0).to(WORK) + total.to(x.device)
        tokens += len(x)
    return square / tokens, total / tokens


def _local(
    linear: Linear, square: Tensor, mean: Tensor, metric: Tensor | None, rank: int, damping: float
) -> Linear:
    """Local factors of `linear`, and the bias that goes with them."""
    if linear.bias is not None:
        square = square - torch.outer(mean, mean)
    floor = damping * square.diagonal().mean()
    inputs = root(square + floor * torch.eye(len(square), dtype=WORK, device=square.device))
    whole = linear.product().to(WORK)
    up, down = local_factors(whole, inputs, metric).at(rank)
    bias = linear.bias
    if bias is not None:
        bias = (bias.to(WORK) + (whole - up @ down) @ mean).to(bias)
    return Linear(up.to(linear.up), down.to(linear.up), bias)
