# SPDX-License-Identifier: Apache-2.0
"""Which weights learn, by name; and adapters of small rank that are merged into the weights at the end."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from core.errors import ModelError
from core.heal.spec import Healing
from core.modeling import LatentAttention
from core.modeling.modeling_mla import Int8Linear, LatentLinear

# the original's norms of a head's query and key stay: the latent is a map of what they give
_FIXED = ("q_norm", "k_norm")


class Adapter(nn.Module):
    """W + B A of rank r: A starts random, B at 0, so that nothing has changed before the first step."""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.shape
        rank = min(rank, rows, columns)
        drawn = torch.randn(rank, columns, generator=generator) / columns**0.5
        self.down = nn.Parameter(drawn.to(weight.device, weight.dtype))
        self.up = nn.Parameter(weight.new_zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


def choose_trainable(model: Any, healing: Healing) -> dict[str, nn.Parameter]:
    """Let the asked weights of `model` learn and no others; returns them by name.

    With lora, adapters are put on the attention's linear layers. Raises ModelError when nothing is left.
    """
    model.requires_grad_(False)
    chosen = {name for name, _ in model.named_parameters()} if healing.trainable == "all" else set()
    if healing.trainable == "attention":
        chosen = _of_attention(model)
    elif healing.trainable == "lora":
        _add_adapters(model, healing)
        chosen = {name for name, _ in model.named_parameters() if is_adapter(name)}
        chosen = {name for name in chosen if not name.endswith(".original")}
    found = {name: one for name, one in model.named_parameters() if name in chosen and one.numel()}
    for one in found.values():
        one.requires_grad_(True)
    if not found:
        raise ModelError(
            "the model has no weights of the kind that shall learn",
            hint="choose trainable attention or all",
            field="heal.trainable",
        )
    return found


def is_adapter(name: str) -> bool:
    """Whether a parameter belongs to an adapter."""
    return ".parametrizations." in name


def merged_weights(model: Any, names: set[str]) -> dict[str, Tensor]:
    """What changed, under the names of the checkpoint: adapters are added to their weights.

    `names` are those of `choose_trainable`.
    """
    adapted = {name.split(".parametrizations.")[0] + ".weight" for name in names if is_adapter(name)}
    if adapted:
        return {name: _tensor(model, name).detach() for name in sorted(adapted)}
    return {name: one.detach() for name, one in model.named_parameters() if name in names}


def fixed_int8(model: Any) -> list[str]:
    """Linear layers whose int8 numbers cannot learn."""
    return [name for name, module in model.named_modules() if isinstance(module, Int8Linear)]


def _of_attention(model: Any) -> set[str]:
    """Latent factors, W_Q and W_O with their biases, and every factored linear layer."""
    found = set()
    for path, module in model.named_modules():
        if isinstance(module, LatentAttention | LatentLinear):
            own = {name for name, _ in module.named_parameters() if name.split(".")[0] not in _FIXED}
            found |= {f"{path}.{name}" for name in own}
    return found


def _add_adapters(model: Any, healing: Healing) -> None:
    generator = torch.Generator().manual_seed(healing.seed)
    for linear in list(_linears(model)):
        adapter = Adapter(linear.weight, healing.lora_rank, generator)
        parametrize.register_parametrization(linear, "weight", adapter)


def _linears(model: Any) -> Iterator[nn.Linear]:
    for attention in model.modules():
        if isinstance(attention, LatentAttention):
            yield from (
                one for one in attention.modules() if isinstance(one, nn.Linear) and one.weight.numel()
            )


def _tensor(model: Any, name: str) -> Tensor:
    path, _, own = name.rpartition(".")
    found: Tensor = getattr(model.get_submodule(path), own)
    return found
