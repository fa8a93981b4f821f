# SPDX-License-Identifier: Apache-2.0
"""See what goes into and comes out of one attention layer's projections while the layer runs."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from core.arch import Architecture
from core.facts import ModelFacts
from core.weights.projections import Projections

Split = Callable[[Sequence[Tensor]], tuple[Tensor, Tensor, Tensor]]


class Tap:
    """Hooks on modules of one attention module; what the last run showed is taken once.

    `outputs` of the hooked modules may be differentiated by; `split` turns them, or gradients at them, into
    (q, k, v) in the canonical layout.
    """

    def __init__(
        self, attention: nn.Module, names: Sequence[str], output: str, split: Split, *, reads_outputs: bool
    ) -> None:
        """`reads_outputs`: the latent is made of [q; k; v] (core/qk_norm.py), not of the modules' inputs."""
        self.split = split
        self._names = names
        self._reads_outputs = reads_outputs
        self._inputs: Tensor | None = None
        self._mixed: Tensor | None = None
        self._outputs: dict[str, Tensor] = {}
        self._hooks = [self._watch(attention, name) for name in names]
        self._hooks.append(attention.get_submodule(output).register_forward_pre_hook(self._keep_mixed))

    def take(self) -> tuple[Tensor, list[Tensor], Tensor]:
        """(what the latent reads, outputs of the modules, input of the output projection) of the last run."""
        inputs, mixed = self._inputs, self._mixed
        assert inputs is not None
        assert mixed is not None
        outputs = [self._outputs.pop(name) for name in self._names]
        if self._reads_outputs:
            inputs = torch.cat(self.split([output.detach() for output in outputs]), dim=-1)
        self._inputs = self._mixed = None
        return inputs, outputs, mixed

    def remove(self) -> None:
        """Take the hooks off."""
        for hook in self._hooks:
            hook.remove()

    def _watch(self, attention: nn.Module, name: str) -> Any:
        def keep(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            del module
            self._outputs[name] = output
            self._inputs = inputs[0].detach()

        return attention.get_submodule(name).register_forward_hook(keep)

    def _keep_mixed(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
        del module
        self._mixed = inputs[0]


def tap_of(attention: nn.Module, family: Architecture, facts: ModelFacts) -> Tap:
    """The tap for a layer of `family`: at its projections, or behind the norms of queries and keys."""
    norms = family.qk_norm
    if norms is None:
        projections = Projections(family, facts)
        return Tap(attention, projections.names, family.output, projections.split, reads_outputs=False)

    def split(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = parts
        if norms.heads_first:
            query, key = query.transpose(1, 2), key.transpose(1, 2)
        return query.flatten(2), key.flatten(2), value

    names = (norms.query, norms.key, family.value)
    return Tap(attention, names, family.output, split, reads_outputs=True)
