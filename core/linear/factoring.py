# SPDX-License-Identifier: Apache-2.0
"""The linear layers of one decoder layer as factors. Pure: (weights, statistics, recipe), then any ranks."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from core.factor.local import gram_factors
from core.factor.metrics import INPUT, InputMoments, root, squared_input
from core.factor.sparse import Sparse, low_rank_plus_sparse
from core.linear.moments import LinearStatistics
from core.linear.shapes import LinearPlan
from core.recipe import Recipe

WORK = torch.float64


@dataclass(frozen=True)
class Linear:
    """A linear layer: weight (n, d) and bias (n), or None."""

    weight: Tensor
    bias: Tensor | None = None

    def to(self, device: torch.device) -> "Linear":
        """The same layer on `device`."""
        return Linear(self.weight.to(device), None if self.bias is None else self.bias.to(device))


@dataclass(frozen=True)
class Factored:
    """W' = up @ down (+ residual): up (n, r), down (r, d), bias (n) or None; float64."""

    up: Tensor
    down: Tensor
    bias: Tensor | None = None
    residual: Sparse | None = None


class LinearFactors:
    """One linear layer with everything done that does not depend on its rank.

    output: the metric G of its outputs, (n, n) or its diagonal (n), None for the plain one. With mean_bias
    the factors fit what varies and the bias makes up for the mean: b' = b + (W - W') E[x] (LatentLLM).
    """

    def __init__(
        self,
        linear: Linear,
        moments: InputMoments,
        output: Tensor | None,
        recipe: Recipe,
        shrinkage: float,
    ) -> None:
        self.linear = linear
        self._mean = moments.mean if recipe.mean_bias else None
        measured = moments.centred() if recipe.mean_bias else moments
        self._moments, self._choice = measured.damped(shrinkage), recipe.linear_input
        self._output = output
        self._factors = gram_factors(linear.weight, squared_input(self._moments, self._choice), output)

    def at(self, plan: LinearPlan) -> Factored | Linear:
        """The factors that `plan` asks for, or the layer itself where it is left whole."""
        if not plan.rank:
            return self.linear
        if not plan.sparse:
            up, down = self._factors.at(plan.rank)
            return Factored(up, down, self._bias(up @ down))
        # single entries are chosen output by output, so only how much each counts is looked at
        weight = (
            self._output.diagonal() if self._output is not None and self._output.ndim == 2 else self._output
        )
        inputs = INPUT[self._choice](self._moments)
        both = low_rank_plus_sparse(self.linear.weight, inputs, plan.rank, plan.sparse, weight)
        bias = self._bias(both.up @ both.down + both.sparse.dense())
        return Factored(both.up, both.down, bias, both.sparse)

    def _bias(self, product: Tensor) -> Tensor | None:
        bias = None if self.linear.bias is None else self.linear.bias.to(WORK)
        if self._mean is None:
            return bias
        lost = (self.linear.weight.to(WORK) - product) @ self._mean
        return lost if bias is None else bias + lost


def output_metrics(
    statistics: LinearStatistics, keys: Tensor | None, recipe: Recipe
) -> dict[str, Tensor | None]:
    """The metric of each part's outputs: none for local factors.

    joint: a query's error is measured in the logits it makes (`keys`, see core/linear/key_moments.py); of
    the others each channel counts by the mean square of the loss gradient there, where it was measured.
    """
    parts = ("query", "output", "gate", "up", "down")
    if recipe.linear_form == "local":
        return dict.fromkeys(parts)
    found: dict[str, Tensor | None] = {part: statistics.channel_weight(part) for part in parts}
    return found | {"query": keys}


def predicted_losses(
    weights: Mapping[str, Linear], statistics: LinearStatistics, recipe: Recipe, shrinkage: float
) -> dict[str, Tensor]:
    """For each part what every rank from 0 on loses, (m + 1,) nats per token, falling to 0.

    Second order: 1/2 E[(g . (W - W') x)^2] with g the loss gradient at the outputs, its channels taken as
    uncorrelated among each other and with x: 1/2 ||diag(E[g^2])^{1/2} (W - W') C^{1/2}||^2.
    """
    found = {}
    for part, linear in weights.items():
        squares = _spectrum(linear, statistics.of(part), statistics.gradients[part], recipe, shrinkage)
        tails = squares.flip(0).cumsum(dim=0).flip(0)
        found[part] = torch.cat([tails, tails.new_zeros(1)]) / 2
    return found


def _spectrum(
    linear: Linear, moments: InputMoments, gradient: Tensor, recipe: Recipe, shrinkage: float
) -> Tensor:
    """Squared singular values of diag(g)^{1/2} W C^{1/2}, falling: eigenvalues of its smaller Gram matrix."""
    measured = (moments.centred() if recipe.mean_bias else moments).damped(shrinkage)
    weighed = gradient.sqrt()[:, None] * linear.weight.to(WORK)
    if len(weighed) <= weighed.shape[1]:
        gram = weighed @ measured.covariance @ weighed.T
    else:
        half = root(measured.covariance)
        gram = half.T @ (weighed.T @ weighed) @ half
    values: Tensor = torch.linalg.eigvalsh(gram)
    return values.flip(0).clamp_min(0)
