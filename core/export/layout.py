# SPDX-License-Identifier: Apache-2.0
"""Which tensors the converted checkpoint has, known from facts and plan before anything is computed."""

from collections.abc import Mapping
from pathlib import Path

from core.arch import Architecture
from core.facts import ModelFacts
from core.linear.layout import Stored, smaller
from core.modeling import PRE_ROPE, LatentShape
from core.planning import LayerPlan, Plan, read_widths
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
    inside = {info.name for unit in layers for info in unit.tensors}
    inside |= _factored(family, plan)
    replaced = tuple(family.attention.format(i=layer.index) + "." for layer in plan.layers)
    embedding = f"{family.embedding}.weight"
    outside = [
        info for name, info in sorted(infos.items()) if name not in inside and not name.startswith(replaced)
    ]
    for info in sorted(outside, key=lambda info: info.name != embedding):
        found.append(Unit(info.name, (_as(info, dtype),)))
    return [*found[:1], *layers, *found[1:]]


def latent_shape(facts: ModelFacts, layer: LayerPlan) -> LatentShape:
    """What the model class needs to know of a planned layer; raises ValueError for widths it cannot have.

    A key bias on dims that do not rotate cancels in the softmax. One on rotary dims is kept where the key is
    made: in the down-projection when rotated keys are cached, behind U_k when they are rebuilt (pre-rope). A
    value bias becomes an output bias, since attention weights add up to one.
    """
    # before norms, biases of queries, keys and values stay where they are
    has_kv_bias = (facts.has_attention_bias and not facts.has_qk_norm) or layer.mean_bias
    is_pre_rope = layer.layout == PRE_ROPE
    shape = LatentShape(
        layout=layer.layout,
        kv_lora_rank=layer.kv_lora_rank,
        k_rank=layer.k_rank,
        v_rank=layer.v_rank,
        groups=layer.groups,
        qk_rope_head_dim=layer.qk_rope_head_dim,
        qk_nope_head_dim=layer.qk_nope_head_dim,
        v_head_dim=facts.head_dim,
        q_bias=facts.has_attention_bias,
        kv_a_bias=has_kv_bias and not is_pre_rope,
        k_b_bias=has_kv_bias and is_pre_rope,
        o_bias=facts.has_attention_bias or layer.mean_bias,
        kv_identity=layer.kv_identity,
        qk_norm=facts.has_qk_norm,
        softcap=facts.softcap,
        latent_bits=layer.latent_bits,
    )
    shape.check(facts.kv_heads)
    return shape


def latent_shapes(facts: ModelFacts, layer: LayerPlan) -> dict[str, tuple[int, ...]]:
    """Shapes of the latent attention's tensors, named as core/modeling names them."""
    shape, width = latent_shape(facts, layer), facts.hidden_size
    query_width, latent_width, _ = read_widths(facts)
    query_rows = facts.heads * (shape.qk_nope_head_dim + shape.qk_rope_head_dim)
    latent_rows = shape.kv_lora_rank + shape.cached_rope_numbers
    key_rows = facts.kv_heads * shape.rebuilt_key_dims
    shapes: dict[str, tuple[int, ...]] = {
        "q_b_proj.weight" if shape.qk_norm else "q_proj.weight": (query_rows, query_width),
        "kv_a_proj_with_mqa.weight": (latent_rows, latent_width),
        "k_b_proj.weight": (key_rows, shape.k_rank),
        "v_b_proj.weight": (facts.kv_heads * shape.v_head_dim, shape.v_rank),
        "o_proj.weight": (width, facts.heads * shape.v_head_dim),
        "inv_freq": (shape.rotations, shape.qk_rope_head_dim // 2),
    }
    if shape.qk_norm:
        shapes |= _front_shapes(facts)
    if shape.latent_bits < 16:
        shapes |= {"kv_scale": (latent_rows,), "kv_zero": (latent_rows,)}
    biases = {
        "q_proj.bias": (shape.q_bias and not shape.qk_norm, query_rows),
        "kv_a_proj_with_mqa.bias": (shape.kv_a_bias, latent_rows),
        "k_b_proj.bias": (shape.k_b_bias, key_rows),
        "o_proj.bias": (shape.o_bias, width),
    }
    return shapes | {name: (rows,) for name, (is_there, rows) in biases.items() if is_there}


def _front_shapes(facts: ModelFacts) -> dict[str, tuple[int, ...]]:
    """The tensors of the original that stay in front of the maps where queries and keys are normed."""
    rows = {"q_proj": facts.heads, "k_proj": facts.kv_heads, "v_proj": facts.kv_heads}
    shapes: dict[str, tuple[int, ...]] = {f"{name}_norm.weight": (facts.head_dim,) for name in "qk"}
    for name, heads in rows.items():
        shapes[f"{name}.weight"] = (heads * facts.head_dim, facts.hidden_size)
        if facts.has_attention_bias:
            shapes[f"{name}.bias"] = (heads * facts.head_dim,)
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
    path = attention.removeprefix(prefix)
    copied = {
        name.removeprefix(prefix): _as(info, dtype)
        for name, info in sorted(infos.items())
        if name.startswith(prefix) and not name.startswith(attention)
    }
    whole: dict[str, Stored] = {name: (info.dtype, info.shape) for name, info in copied.items()}
    # frequencies stay exact: rounding them to bfloat16 would shift far positions by whole turns
    whole |= {
        path + name: ("float32" if name == "inv_freq" else None, shape)
        for name, shape in latent_shapes(facts, layer).items()
    }
    tensors = tuple(
        copied[name] if name in copied else TensorInfo(prefix + name, own or plan.dtype, shape, Path())
        for name, (own, shape) in smaller(whole, layer, path.rstrip(".")).items()
    )
    return Unit(layer_unit(layer.index), tensors)


def _factored(family: Architecture, plan: Plan) -> set[str]:
    """Names of the original's linear layers, those of attention aside, that are stored as factors."""
    return {
        f"{family.layer.format(i=layer.index)}.{one.path}.{kind}"
        for layer in plan.layers
        for one in layer.linears
        if one.rank
        for kind in ("weight", "bias")
    }


def _as(info: TensorInfo, dtype: str) -> TensorInfo:
    if dtype == "checkpoint" or info.dtype not in _FLOATS:
        return info
    return TensorInfo(info.name, dtype, info.shape, info.file)
