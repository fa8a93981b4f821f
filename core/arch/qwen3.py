# SPDX-License-Identifier: Apache-2.0
"""Qwen3 (0.6B to 32B) and Qwen3-Embedding's text models: norms of every head's query and key."""

from core.arch.architecture import Architecture, QKNorm

QWEN3 = Architecture(
    family="Qwen3",
    model_types=("qwen3",),
    qk_norm=QKNorm(),
    config_defaults=(("head_dim", 128),),
    refused=(),
)
