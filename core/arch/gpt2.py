# SPDX-License-Identifier: Apache-2.0
"""GPT-2 (all sizes), DistilGPT-2 and models trained on their code.

Positions are learned, so nothing rotates; weights are stored transposed (Conv1D), queries, keys and values
come out of one projection, and the head is tied to the embeddings.
"""

from core.arch.architecture import Architecture, Fused, Refused

GPT2 = Architecture(
    family="GPT-2",
    model_types=("gpt2",),
    layer="transformer.h.{i}",
    attention="transformer.h.{i}.attn",
    output="c_proj",
    fused=Fused("c_attn"),
    has_transposed_weights=True,
    embedding="transformer.wte",
    positions="transformer.wpe",
    final_norm="transformer.ln_f",
    rotary="",
    mlp=None,
    dropout="attn_pdrop",
    config_names=(
        ("hidden_size", "n_embd"),
        ("num_attention_heads", "n_head"),
        ("num_hidden_layers", "n_layer"),
        ("max_position_embeddings", "n_positions"),
    ),
    refused=(
        Refused("add_cross_attention", False),
        Refused("scale_attn_weights", True, "scores must be divided by the root of the head's width"),
        Refused("scale_attn_by_inverse_layer_idx", False, "scores must be scaled alike in every layer"),
    ),
    # the files of the first release have no prefix, and keep the causal mask beside the weights
    old_names=tuple((old, f"transformer.{old}") for old in ("h.", "wte.", "wpe.", "ln_f.")),
    buffers=(".attn.bias", ".attn.masked_bias"),
)
