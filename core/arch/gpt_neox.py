# SPDX-License-Identifier: Apache-2.0
"""GPT-NeoX-20B, Pythia (all sizes), Dolly 2 and other models of type gpt_neox.

A quarter of a head's dims rotates (rotary_pct), queries, keys and values come out of one projection head by
head, everything has biases, and attention and MLP stand side by side (or not: use_parallel_residual).
"""

from core.arch.architecture import Architecture, Fused

GPT_NEOX = Architecture(
    family="GPT-NeoX",
    model_types=("gpt_neox",),
    layer="gpt_neox.layers.{i}",
    attention="gpt_neox.layers.{i}.attention",
    output="dense",
    fused=Fused("query_key_value", by_head=True),
    embedding="gpt_neox.embed_in",
    final_norm="gpt_neox.final_layer_norm",
    rotary="gpt_neox.rotary_emb",
    is_partly_rotary=True,
    rope_types=("default", "linear"),
    mlp=("", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
    config_names=(("rope_theta", "rotary_emb_base"), ("partial_rotary_factor", "rotary_pct")),
    config_defaults=(("partial_rotary_factor", 0.25),),
    refused=(),
    old_names=(("embed_out.", "lm_head."),),
    buffers=(".attention.bias", ".attention.masked_bias"),
)
