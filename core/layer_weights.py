# SPDX-License-Identifier: Apache-2.0
"""Read the attention projections of one original layer."""

import torch
from torch import Tensor

from core.arch import Architecture
from core.convert import AttentionWeights
from core.facts import ModelFacts
from core.weights.projections import Projections
from core.weights.tensors import TensorSource


def attention_weights(
    source: TensorSource, family: Architecture, facts: ModelFacts, index: int, device: torch.device
) -> AttentionWeights:
    """The original projections of layer `index` in the canonical layout, on the device; no bias is None."""
    projections = Projections(family, facts)

    def weight(module: str) -> Tensor:
        stored = source.read(family.tensor(index, module)).to(device)
        return stored.T if family.has_transposed_weights else stored

    def bias(module: str) -> Tensor | None:
        name = family.tensor(index, module, "bias")
        return source.read(name).to(device) if name in source else None

    query, key, value = projections.split([weight(name) for name in projections.names], dim=0)
    given = [one for one in map(bias, projections.names) if one is not None]
    q_bias, k_bias, v_bias = projections.split(given) if given else (None, None, None)
    output = weight(family.output)
    return AttentionWeights(query, key, value, output, q_bias, k_bias, v_bias, bias(family.output))
