# SPDX-License-Identifier: Apache-2.0
"""Bytes of KV cache per token: by formula, and as a real cache holds them. The two must agree exactly."""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig

from core.arch import find_architecture
from core.errors import VerificationError
from core.kv_budget import full_numbers, latent_numbers
from core.model_config import dimensions, model_type_of
from core.modeling import MLAConfig


def formula_kv_bytes(config: PreTrainedConfig, dtype: torch.dtype) -> int:
    """Bytes per token over all layers, for a converted model or a plain MHA/GQA one."""
    if isinstance(config, MLAConfig):
        numbers = sum(
            latent_numbers(shape.kv_lora_rank, shape.groups, shape.qk_rope_head_dim)
            for shape in config.shapes()
        )
    else:
        family, said = find_architecture(model_type_of(config.to_dict())), config.to_dict()
        size = dimensions(family.read_config(said) if family else said, family)
        numbers = size.layers * full_numbers(size.kv_heads, size.head_dim)
    return numbers * dtype.itemsize


@torch.no_grad()
def measure_kv_bytes(model: Any, tokens: int = 64) -> int:
    """Bytes per token the cache really holds after a forward pass over `tokens` tokens.

    Whole allocations are counted, not views of them, so memory kept alive by a slice would show. Raises
    VerificationError when the total is not a multiple of `tokens`.
    """
    cache = DynamicCache()
    ids = torch.arange(tokens, device=model.device)[None] % model.config.get_text_config().vocab_size
    model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    total = held_bytes(cache)
    if total % tokens:
        raise VerificationError(
            f"the cache holds {total} bytes for {tokens} tokens, not a whole number each",
            hint="something besides latents and rotary keys is cached",
        )
    return total // tokens


def held_bytes(cache: DynamicCache) -> int:
    """Bytes of every distinct allocation behind the tensors of the cache's layers."""
    tensors = [value for layer in cache.layers for value in vars(layer).values() if isinstance(value, Tensor)]
    storages = {storage.data_ptr(): storage.nbytes() for storage in (t.untyped_storage() for t in tensors)}
    return sum(storages.values())
