# SPDX-License-Identifier: Apache-2.0
"""Read the attention projections of one original layer."""

import torch
from torch import Tensor

from core.arch import Architecture
from core.convert import AttentionWeights
from core.weights.tensors import TensorSource


def attention_weights(
    source: TensorSource, family: Architecture, index: int, device: torch.device
) -> AttentionWeights:
    """The original projections of layer `index`, on the device; a missing bias is None."""

    def read(projection: str, kind: str) -> Tensor | None:
        name = family.tensor(index, projection, kind)
        return source.read(name).to(device) if name in source else None

    weights = {
        field: source.read(family.tensor(index, projection)).to(device)
        for field, projection in (
            ("q", family.query),
            ("k", family.key),
            ("v", family.value),
            ("o", family.output),
        )
    }
    return AttentionWeights(
        **weights,
        q_bias=read(family.query, "bias"),
        k_bias=read(family.key, "bias"),
        v_bias=read(family.value, "bias"),
        o_bias=read(family.output, "bias"),
    )
