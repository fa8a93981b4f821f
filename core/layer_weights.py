# SPDX-License-Identifier: Apache-2.0
"""Read the weights of one original layer: its attention projections, and the matrices of its MLP."""

import torch
from torch import Tensor

from core.arch import Architecture
from core.arch.architecture import QKNorm
from core.convert import AttentionWeights
from core.facts import ModelFacts
from core.linear.factoring import Linear
from core.qk_norm import picked
from core.weights.projections import Projections
from core.weights.tensors import TensorSource


def attention_weights(
    source: TensorSource, family: Architecture, facts: ModelFacts, index: int, device: torch.device
) -> AttentionWeights:
    """The original projections of layer `index` in the canonical layout, on the device; no bias is None.

    Behind norms of queries and keys they are picked from u (core/qk_norm.py).
    """
    projections = Projections(family, facts)

    def weight(module: str) -> Tensor:
        stored = source.read(family.tensor(index, module)).to(device)
        return stored.T if family.has_transposed_weights else stored

    def bias(module: str) -> Tensor | None:
        name = family.tensor(index, module, "bias")
        return source.read(name).to(device) if name in source else None

    if family.qk_norm is not None:
        front = _front(source, family, family.qk_norm, index, device)
        queries, keys = facts.heads * facts.head_dim, facts.kv_heads * facts.head_dim
        picks = picked(queries, keys, front["q_proj.weight"])
        return AttentionWeights(*picks, weight(family.output), o_bias=bias(family.output), front=front)
    query, key, value = projections.split([weight(name) for name in projections.names], dim=0)
    given = [one for one in map(bias, projections.names) if one is not None]
    q_bias, k_bias, v_bias = projections.split(given) if given else (None, None, None)
    output = weight(family.output)
    return AttentionWeights(query, key, value, output, q_bias, k_bias, v_bias, bias(family.output))


def mlp_weights(
    source: TensorSource, family: Architecture, index: int, device: torch.device
) -> dict[str, Linear]:
    """The matrices of the MLP of layer `index` by part, on the device: gate where there is one, up, down."""
    prefix, found = family.layer.format(i=index), {}
    for part, path in zip(("gate", "up", "down"), family.mlp or (), strict=False):
        if path:
            bias = f"{prefix}.{path}.bias"
            found[part] = Linear(
                source.read(f"{prefix}.{path}.weight").to(device),
                source.read(bias).to(device) if bias in source else None,
            )
    return found


def _front(
    source: TensorSource, family: Architecture, norms: QKNorm, index: int, device: torch.device
) -> dict[str, Tensor]:
    """The projections and norms in front of a layer's maps, named as the model file names them."""
    modules = {
        "q_proj": family.query,
        "k_proj": family.key,
        "v_proj": family.value,
        "q_norm": norms.query,
        "k_norm": norms.key,
    }
    names = {
        f"{own}.{kind}": family.tensor(index, theirs, kind)
        for own, theirs in modules.items()
        for kind in ("weight", "bias")
    }
    return {own: source.read(stored).to(device) for own, stored in names.items() if stored in source}
