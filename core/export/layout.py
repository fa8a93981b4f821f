# SPDX-License-Identifier: Apache-2.0
"""Which tensors the converted checkpoint has, known from facts and plan before anything is computed."""

from collections.abc import Mapping
from pathlib import Path

from core.arch import Architecture
from core.facts import ModelFacts
from core.planning import LayerPlan, Plan
from core.weights.index import TensorInfo
from core.weights.writer import Unit

_FLOATS = ("float64", "float32", "bfloat16", "float16")


def layer_unit(index: int) -> str:
    """Name of the unit that holds decoder layer `index`."""
    return f"layer-{index:05d}"


def units(
    infos: Mapping[str, TensorInfo], facts: ModelFacts, family: Architecture, plan: Plan, dtype: str
) -> list[Unit]:
    """Units in writing order: the tensors before the layers, every layer, the rest.

    `dtype` is "checkpoint" (every tensor keeps its own) or the dtype all floats are written in.
    """
    found: list[Unit] = []
    layers = [_layer(infos, facts, family, plan, layer, dtype) for layer in plan.layers]
    inside = {info.name for unit in layers for info in unit.tensors} | _replaced(facts, family)
    embedding = f"{family.embedding}.weight"
    outside = [info for name, info in sorted(infos.items()) if name not in inside]
    for info in sorted(outside, key=lambda info: info.name != embedding):
        found.append(Unit(info.name, (_as(info, dtype),)))
    return [*found[:1], *layers, *found[1:]]


def copied_names(unit: Unit, family: Architecture, index: int) -> list[str]:
    """Tensors of a layer's unit that are taken over from the original unchanged."""
    attention = family.attention.format(i=index) + "."
    return [info.name for info in unit.tensors if not info.name.startswith(attention)]


def latent_shapes(facts: ModelFacts, layer: LayerPlan) -> dict[str, tuple[int, ...]]:
    """Shapes of the latent attention's tensors, named as core/modeling names them."""
    width, kv = facts.hidden_size, facts.kv_heads
    rope = layer.groups * layer.qk_rope_head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "q_proj.weight": (facts.heads * facts.head_dim, width),
        "kv_a_proj_with_mqa.weight": (layer.kv_lora_rank + rope, width),
        "k_b_proj.weight": (kv * layer.qk_nope_head_dim, layer.k_rank),
        "v_b_proj.weight": (kv * facts.head_dim, layer.v_rank),
        "o_proj.weight": (width, facts.heads * facts.head_dim),
        "inv_freq": (layer.groups, layer.qk_rope_head_dim // 2),
    }
    if facts.has_attention_bias:
        shapes["q_proj.bias"] = (facts.heads * facts.head_dim,)
        shapes["kv_a_proj_with_mqa.bias"] = (layer.kv_lora_rank + rope,)
        shapes["o_proj.bias"] = (width,)
    return shapes


def _layer(
    infos: Mapping[str, TensorInfo],
    facts: ModelFacts,
    family: Architecture,
    plan: Plan,
    layer: LayerPlan,
    dtype: str,
) -> Unit:
    prefix = family.layer.format(i=layer.index) + "."
    attention = family.attention.format(i=layer.index) + "."
    kept = [
        _as(info, dtype)
        for name, info in sorted(infos.items())
        if name.startswith(prefix) and not name.startswith(attention)
    ]
    latent = [
        # frequencies stay exact: rounding them to bfloat16 would shift far positions by whole turns
        TensorInfo(attention + name, "float32" if name == "inv_freq" else plan.dtype, shape, Path())
        for name, shape in latent_shapes(facts, layer).items()
    ]
    return Unit(layer_unit(layer.index), (*kept, *latent))


def _replaced(facts: ModelFacts, family: Architecture) -> set[str]:
    """Names of the original attention's tensors."""
    projections = (family.query, family.key, family.value, family.output)
    return {
        family.tensor(layer, projection, kind)
        for layer in range(facts.layers)
        for projection in projections
        for kind in ("weight", "bias")
    }


def _as(info: TensorInfo, dtype: str) -> TensorInfo:
    if dtype == "checkpoint" or info.dtype not in _FLOATS:
        return info
    return TensorInfo(info.name, dtype, info.shape, info.file)
