# SPDX-License-Identifier: Apache-2.0
"""Refit a factored MLP through its nonlinearity, on inputs that the original layer saw."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from core.factor import mlp as joint
from core.factor.mlp_refit import RefitEffort, refit_mlp
from core.linear.factoring import Factored, Linear

WORK = torch.float64
# of the inputs every eighth batch decides whether a step is kept
_HELD = 8
# tokens that go through the MLP at once
_ROWS = 1024
EFFORT = RefitEffort(sweeps=1, passes=3)


@dataclass(frozen=True)
class MlpSample:
    """inputs: (tokens, d) float32 of the original MLP; activation: what stands between its projections."""

    inputs: Tensor
    activation: Callable[[Tensor], Tensor]


def reader_metrics(whole: Mapping[str, Linear], sample: MlpSample) -> dict[str, Tensor]:
    """The metric (m, m) of the outputs of gate and up, see core/factor/mlp.py."""
    device = whole["up"].weight.device
    return joint.reader_metrics(
        _mlp(whole, sample), lambda: (rows.to(device) for rows in sample.inputs.split(_ROWS))
    )


def refit_mlp_parts(
    whole: Mapping[str, Linear],
    smaller: Mapping[str, Factored | Linear],
    sample: MlpSample,
    effort: RefitEffort | None = None,
) -> dict[str, Factored | Linear]:
    """The MLP's parts fitted to the outputs of the whole MLP: factors, and a W_d that was left whole too.

    A sparse residual cannot be refitted, so with one, or with nothing factored, `smaller` comes back.
    """
    parts = {part: smaller[part] for part in whole}
    factors = [one for one in parts.values() if isinstance(one, Factored)]
    if not factors or any(one.residual for one in factors):
        return parts
    device = whole["up"].weight.device
    batches = [rows.to(device) for rows in sample.inputs.split(_ROWS)]
    fit = [rows for index, rows in enumerate(batches) if index % _HELD] or batches
    held = batches[::_HELD]
    original, start = _mlp(whole, sample), _mlp(parts, sample)
    found = refit_mlp(original, start, lambda: fit, lambda: held, effort or EFFORT).mlp
    moved = {"gate": found.gate, "up": found.up, "down": found.down}
    return {part: _stored(one) for part, one in moved.items() if one is not None}


def _mlp(parts: Mapping[str, Factored | Linear], sample: MlpSample) -> joint.MLP:
    found = {part: _float(one) for part, one in parts.items()}
    return joint.MLP(found["up"], found["down"], sample.activation, found.get("gate"))


def _float(part: Factored | Linear) -> joint.Linear:
    bias = None if part.bias is None else part.bias.float()
    if isinstance(part, Linear):
        return joint.Linear(part.weight.float(), None, bias)
    return joint.Linear(part.up.float(), part.down.float(), bias)


def _stored(part: joint.Linear) -> Factored | Linear:
    bias = None if part.bias is None else part.bias.to(WORK)
    if part.down is None:
        return Linear(part.up.to(WORK), bias)
    return Factored(part.up.to(WORK), part.down.to(WORK), bias)
