# SPDX-License-Identifier: Apache-2.0
"""See what goes into and comes out of one attention layer's projections while the layer runs."""

from typing import Any

from torch import Tensor, nn

from core.arch import Architecture
from core.facts import ModelFacts
from core.weights.projections import Projections


class AttentionTap:
    """Hooks on the projections of one attention module; what the last run showed is taken once.

    `outputs` of the hooked modules may be differentiated by; `split` turns them, or gradients at them, into
    (q, k, v) in the canonical layout.
    """

    def __init__(self, attention: nn.Module, family: Architecture, facts: ModelFacts) -> None:
        self._projections = Projections(family, facts)
        self.split = self._projections.split
        self._inputs: Tensor | None = None
        self._mixed: Tensor | None = None
        self._outputs: dict[str, Tensor] = {}
        self._hooks = [self._watch(attention, name) for name in self._projections.names]
        output = attention.get_submodule(family.output)
        self._hooks.append(output.register_forward_pre_hook(self._keep_mixed))

    def take(self) -> tuple[Tensor, list[Tensor], Tensor]:
        """(inputs of the projections, their outputs, input of the output projection) of the last run."""
        inputs, mixed = self._inputs, self._mixed
        assert inputs is not None
        assert mixed is not None
        outputs = [self._outputs.pop(name) for name in self._projections.names]
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
