# SPDX-License-Identifier: Apache-2.0
"""What layers give, watched by hooks: for losses on hidden states and on outputs of attention."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing


class LayerTap:
    """Keeps the outputs of every decoder layer, and of every attention, of the last forward pass."""

    def __init__(self, model: Any, layer: str, attention: str, layers: int) -> None:
        """`layer` and `attention` are paths with {i} in them."""
        self._seen: list[list[Tensor]] = [[], []]
        for kind, path in enumerate((layer, attention)):
            for index in range(layers):
                self._watch(model.get_submodule(path.format(i=index)), self._seen[kind])

    def _watch(self, module: nn.Module, seen: list[Tensor]) -> None:
        def keep(module: nn.Module, given: Any, output: Any) -> None:
            del module, given
            seen.append(output if isinstance(output, Tensor) else output[0])

        module.register_forward_hook(keep)

    def take(self) -> list[list[Tensor]]:
        """[hidden states, attention outputs], each (windows, context, d) by layer; they are forgotten."""
        found = [list(one) for one in self._seen]
        for one in self._seen:
            one.clear()
        return found


def checkpoint_layers(model: Any) -> None:
    """Have every decoder layer compute its activations again in the backward pass, not keep them."""
    config = model.config
    layers = {
        config.mla_attention.format(i=index).rpartition(".")[0] for index in range(config.num_hidden_layers)
    }
    chosen = {id(model.get_submodule(path)) for path in layers}
    apply_activation_checkpointing(model, check_fn=lambda module: id(module) in chosen)


def distance(own: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """Mean over layers of |own - other|^2 / |other|^2."""
    parts = [
        (mine.float() - his.float()).square().sum() / his.float().square().sum()
        for mine, his in zip(own, others, strict=True)
    ]
    total = parts[0]
    for one in parts[1:]:
        total = total + one
    return total / len(parts)
