# SPDX-License-Identifier: Apache-2.0
"""A tiny random checkpoint of every family, with whatever its attention has that Llama's has not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.conftest import make_tiny_llama

LAYERS, HEADS, WIDTH = 2, 4, 64
# shorter than any text here, so that a key too many shows
WINDOW = 24
_MULTI_HEAD = {
    "hidden_size": WIDTH,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
}
_LLAMA_LIKE = {**_MULTI_HEAD, "num_key_value_heads": 2}
_MIXTURE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
# norms' and biases' own scale; linear weights are drawn wide enough for logits of size 5 to 10
_INIT: Mapping[str, Any] = {"initializer_range": 0.2, "init_std": 0.2}

CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "qwen2": {**_LLAMA_LIKE, "model_type": "qwen2"},
    # windows begin with the second layer
    "qwen2 windows": {
        **_LLAMA_LIKE,
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": WINDOW,
        "max_window_layers": 1,
    },
    "mistral": {**_LLAMA_LIKE, "model_type": "mistral", "sliding_window": WINDOW, "head_dim": 32},
    "qwen3": {**_LLAMA_LIKE, "model_type": "qwen3", "head_dim": 16, "attention_bias": True},
    "gemma2": {
        **_LLAMA_LIKE,
        "model_type": "gemma2",
        "head_dim": 32,
        "sliding_window": WINDOW,
        "query_pre_attn_scalar": 24,
        # the tiny model's scores and logits reach beyond both
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 5.0,
    },
    "gemma3": {
        **_LLAMA_LIKE,
        "num_key_value_heads": 1,
        "model_type": "gemma3_text",
        "head_dim": 32,
        "sliding_window": WINDOW,
        "query_pre_attn_scalar": 24,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    },
    "mixtral": {**_LLAMA_LIKE, "model_type": "mixtral", "num_local_experts": 4, "sliding_window": WINDOW},
    "qwen2_moe": {
        **_LLAMA_LIKE,
        **_MIXTURE,
        "model_type": "qwen2_moe",
        "shared_expert_intermediate_size": 40,
    },
    # the second layer is no mixture
    "qwen3_moe": {
        **_LLAMA_LIKE,
        **_MIXTURE,
        "model_type": "qwen3_moe",
        "head_dim": 32,
        "mlp_only_layers": [1],
    },
    "phi3": {**_LLAMA_LIKE, "model_type": "phi3"},
    "phi3 partly rotary": {
        **_LLAMA_LIKE,
        "model_type": "phi3",
        "sliding_window": WINDOW,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.75},
    },
    # an odd number of pairs that rotate and of pairs that do not
    "gpt_neox": {**_MULTI_HEAD, "model_type": "gpt_neox", "rotary_pct": 0.375},
    "gpt_neox in a row": {**_MULTI_HEAD, "model_type": "gpt_neox", "use_parallel_residual": False},
    "opt": {**_MULTI_HEAD, "model_type": "opt", "ffn_dim": 96, "word_embed_proj_dim": WIDTH},
    "gpt2": {"model_type": "gpt2", "n_head": HEADS, "n_embd": WIDTH, "n_layer": LAYERS},
}


def make_family(name: str, folder: Path, **more: Any) -> Path:
    """Save the family called `name` in float32 with a byte tokenizer; biases and norms are random too."""
    make_tiny_llama(folder)
    tokens = {"vocab_size": 258, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = {**tokens, "max_position_embeddings": 256, **_INIT, **CONFIGS[name], **more}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    for old in ("model.safetensors", "config.json", "generation_config.json"):
        (folder / old).unlink()
    model.save_pretrained(folder)
    return folder
