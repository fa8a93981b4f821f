# SPDX-License-Identifier: Apache-2.0
"""Qwen1.5-MoE, Qwen2-MoE and Qwen3-MoE: attention is converted, experts stay as they are."""

from core.arch.architecture import Architecture, Experts, QKNorm

QWEN2_MOE = Architecture(
    family="Qwen2-MoE", model_types=("qwen2_moe",), mlp=None, experts=Experts(), refused=()
)
QWEN3_MOE = Architecture(
    family="Qwen3-MoE",
    model_types=("qwen3_moe",),
    mlp=None,
    experts=Experts(),
    qk_norm=QKNorm(),
    config_defaults=(("num_key_value_heads", 4),),
    refused=(),
)
