# SPDX-License-Identifier: Apache-2.0
"""Gemma 3 for text (270M, 1B): norms of queries and keys, five layers with windows to one without."""

from core.arch.architecture import Architecture, QKNorm, Refused

GEMMA3 = Architecture(
    family="Gemma 3",
    model_types=("gemma3_text",),
    qk_norm=QKNorm(heads_first=True),
    has_rotary_by_type=True,
    final_softcap="final_logit_softcapping",
    config_defaults=(("head_dim", 256), ("num_key_value_heads", 4)),
    refused=(Refused("use_bidirectional_attention", False),),
)
