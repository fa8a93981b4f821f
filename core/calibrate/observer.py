# SPDX-License-Identifier: Apache-2.0
"""Takes the forward statistics of one layer while it runs."""

import torch
from torch import Tensor

from core.calibrate.layer_statistics import LayerStatistics
from core.calibrate.tap import Tap
from core.facts import ModelFacts
from core.rope.attention_mass import AttentionMass
from core.rope.score_rule import ScoreRule
from core.rope.scores import PairNorms

# sums over many tokens; the products of one batch are float32
WORK = torch.float64
# a full attention map per head is computed for these windows only
ATTENTION_WINDOWS = 8


class Observer:
    """Collects one layer's statistics from what `tap` sees of its attention.

    `looked_at` are the windows whose attention is measured, `rotation` is (cos, sin), each (context, d_h).
    """

    def __init__(
        self,
        facts: ModelFacts,
        tap: Tap,
        rotation: tuple[Tensor, Tensor],
        rule: ScoreRule,
        looked_at: set[int],
    ) -> None:
        width, context = facts.latent_inputs, rotation[0].shape[0]
        self._tap = tap
        self._norms = PairNorms(facts.heads, facts.kv_heads, facts.head_dim)
        self._mass = AttentionMass(facts.heads, facts.kv_heads, context, rule)
        self._covariance = torch.zeros(width, width, dtype=WORK)
        self._sum, self._l1 = torch.zeros(width, dtype=WORK), torch.zeros(width, dtype=WORK)
        self._windows, self._weight = 0, 0.0
        self._rotation = rotation
        self._looked_at = looked_at

    def look(self, weights: Tensor | None = None) -> None:
        """Add the batch that the layer just ran on.

        weights (batch, context): how much each token counts in the moments of the inputs; None: all alike.
        """
        inputs, outputs, _ = self._tap.take()
        query, key, _ = self._tap.split(outputs)
        flat = inputs.flatten(0, -2)
        covariance, total, l1 = input_sums(flat, weights)
        self._covariance += covariance
        self._sum += total
        self._l1 += l1
        self._weight += len(flat) if weights is None else float(weights.sum())
        self._norms.add(query.flatten(0, -2), key.flatten(0, -2))
        for row in range(key.shape[0]):
            if self._windows + row in self._looked_at:
                self._mass.add(query[row], key[row], *self._rotation)
        self._windows += key.shape[0]

    def finish(self) -> LayerStatistics:
        """Take the tap off and return the means."""
        self._tap.remove()
        tokens = self._windows * self._rotation[0].shape[0]
        return LayerStatistics(
            contribution=self._norms.contribution(),
            input_covariance=self._covariance / self._weight,
            input_mean=self._sum / self._weight,
            input_l1=self._l1 / self._weight,
            attention_mass=self._mass.mean(),
            tokens=tokens,
        )


def input_sums(inputs: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of w x x^T, w x and w |x| over tokens, float64 on the CPU.

    inputs: (tokens, d); weights: as many, in any shape.
    """
    weighted = inputs if weights is None else inputs * weights.to(inputs).view(-1, 1)
    sums = (inputs.T @ weighted, weighted.sum(dim=0), weighted.abs().sum(dim=0))
    covariance, total, l1 = (one.cpu().to(WORK) for one in sums)
    return covariance, total, l1


def looked_at(windows: int, seed: int) -> set[int]:
    """The windows whose attention is measured: a few, drawn by seed."""
    order = torch.randperm(windows, generator=torch.Generator().manual_seed(seed))
    return set(order[:ATTENTION_WINDOWS].tolist())
