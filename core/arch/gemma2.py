# SPDX-License-Identifier: Apache-2.0
"""Gemma 2 (2B, 9B, 27B): soft-capped scores and logits, windows in every other layer."""

from core.arch.architecture import Architecture, Refused

GEMMA2 = Architecture(
    family="Gemma 2",
    model_types=("gemma2",),
    softcap="attn_logit_softcapping",
    final_softcap="final_logit_softcapping",
    config_defaults=(
        ("head_dim", 256),
        ("num_key_value_heads", 4),
        ("attn_logit_softcapping", 50.0),
        ("final_logit_softcapping", 30.0),
    ),
    refused=(Refused("use_bidirectional_attention", False),),
)
