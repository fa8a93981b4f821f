# SPDX-License-Identifier: Apache-2.0
"""Takes the forward statistics of one layer while it runs."""

import torch
from torch import Tensor, nn

from core.arch import Architecture
from core.calibrate.layer_statistics import LayerStatistics
from core.facts import ModelFacts
from core.rope.attention_mass import AttentionMass
from core.rope.scores import PairNorms

# sums over many tokens; the products of one batch are float32
WORK = torch.float64
# a full attention map per head is computed for these windows only
ATTENTION_WINDOWS = 8


class Observer:
    """Collects one layer's statistics from the inputs and outputs of its query and key projections.

    `looked_at` are the windows whose attention is measured, `rotation` is (cos, sin), each (context, d_h).
    """

    def __init__(
        self,
        facts: ModelFacts,
        family: Architecture,
        attention: nn.Module,
        rotation: tuple[Tensor, Tensor],
        looked_at: set[int],
    ) -> None:
        width, context = facts.hidden_size, rotation[0].shape[0]
        self._norms = PairNorms(facts.heads, facts.kv_heads, facts.head_dim)
        self._mass = AttentionMass(facts.heads, facts.kv_heads, context, facts.head_dim**-0.5)
        self._covariance = torch.zeros(width, width, dtype=WORK)
        self._sum, self._l1 = torch.zeros(width, dtype=WORK), torch.zeros(width, dtype=WORK)
        self._windows = 0
        self._rotation = rotation
        self._looked_at = looked_at
        self._query: Tensor | None = None
        self._hooks = [
            attention.get_submodule(family.query).register_forward_hook(self._on_query),
            attention.get_submodule(family.key).register_forward_hook(self._on_key),
        ]

    def _on_query(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        del module
        flat = inputs[0].flatten(0, -2)
        self._covariance += (flat.T @ flat).cpu().to(WORK)
        self._sum += flat.sum(dim=0).cpu().to(WORK)
        self._l1 += flat.abs().sum(dim=0).cpu().to(WORK)
        self._query = output

    def _on_key(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        del module, inputs
        assert self._query is not None
        self._norms.add(self._query.flatten(0, -2), output.flatten(0, -2))
        for row in range(output.shape[0]):
            if self._windows + row in self._looked_at:
                self._mass.add(self._query[row], output[row], *self._rotation)
        self._windows += output.shape[0]

    def finish(self) -> LayerStatistics:
        """Remove the hooks and return the means."""
        for hook in self._hooks:
            hook.remove()
        tokens = self._windows * self._rotation[0].shape[0]
        return LayerStatistics(
            contribution=self._norms.contribution(),
            input_covariance=self._covariance / tokens,
            input_mean=self._sum / tokens,
            input_l1=self._l1 / tokens,
            attention_mass=self._mass.mean(),
            tokens=tokens,
        )


def looked_at(windows: int, seed: int) -> set[int]:
    """The windows whose attention is measured: a few, drawn by seed."""
    order = torch.randperm(windows, generator=torch.Generator().manual_seed(seed))
    return set(order[:ATTENTION_WINDOWS].tolist())
