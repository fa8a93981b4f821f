# SPDX-License-Identifier: Apache-2.0
"""Tensors of a decoder layer whose linear layers were made smaller, known from the plan."""

from collections.abc import Mapping
from dataclasses import asdict

from core.linear.stored import INT32, stored_shapes
from core.modeling import FactorShape
from core.planning import LayerPlan

# (dtype, shape); a dtype of None is that of the model
Stored = tuple[str | None, tuple[int, ...]]
_DOWN = "kv_a_proj_with_mqa"


def factor_shapes(layer: LayerPlan) -> dict[str, dict[str, object]]:
    """The layer's entry of `MLAConfig.mla_linears`."""
    return {
        one.path: asdict(FactorShape(one.rank, one.identity, one.sparse, one.bits, one.bias))
        for one in layer.linears
        if one.rank
    }


def smaller(whole: Mapping[str, Stored], layer: LayerPlan, attention: str) -> dict[str, Stored]:
    """What takes the place of `whole`, a decoder layer's tensors by their path in it.

    attention: path of the attention in the layer.
    """
    found = dict(whole)
    for one in layer.linears:
        if one.rank:
            found.pop(f"{one.path}.weight")
            has_bias = found.pop(f"{one.path}.bias", None) is not None or one.bias
            found |= {f"{one.path}.{name}": value for name, value in stored_shapes(one, has_bias).items()}
    if layer.kv_identity:
        name = f"{attention}.{_DOWN}"
        _, (rows, columns) = found.pop(f"{name}.weight")
        rank = layer.kv_lora_rank
        found |= {
            f"{name}.latent.order": (INT32, (columns,)),
            f"{name}.latent.rest.weight": (None, (rank, columns - rank)),
        }
        if rows > rank:
            found[f"{name}.rotary.weight"] = (None, (rows - rank, columns))
    return found
