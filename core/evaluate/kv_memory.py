# SPDX-License-Identifier: Apache-2.0
"""Bytes of KV cache per token: by formula, and as a real cache holds them. The two must agree exactly."""

from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedConfig

from core.arch import find_architecture
from core.errors import VerificationError
from core.kv_budget import EXACT_TOKENS, full_numbers, latent_bytes
from core.model_config import dimensions, model_type_of
from core.modeling import GrowingCache, MLAConfig


def formula_kv_bytes(config: PreTrainedConfig, dtype: torch.dtype) -> int:
    """Bytes per token over all layers, for a converted model or a plain MHA/GQA one."""
    if isinstance(config, MLAConfig):
        return sum(
            latent_bytes(shape.kv_lora_rank, shape.cached_rope_numbers, shape.latent_bits, dtype.itemsize)
            for shape in config.shapes()
        )
    family, said = find_architecture(model_type_of(config.to_dict())), config.to_dict()
    size = dimensions(family.read_config(said) if family else said, family)
    return size.layers * full_numbers(size.kv_heads, size.head_dim) * dtype.itemsize


@torch.no_grad()
def measure_kv_bytes(model: Any, tokens: int = 64) -> int:
    """Bytes per token the cache really holds after a forward pass over `tokens` tokens.

    Of a quantised cache those behind the tokens that it keeps exact. Whole allocations are counted, not views
    of them, so memory kept alive by a slice would show. Raises VerificationError when the total is not a
    multiple of `tokens`.
    """
    cache, exact = new_cache(model), EXACT_TOKENS
    if isinstance(cache, DynamicCache):
        # the same without room for further tokens
        cache, exact = DynamicCache(), 0
    ids = torch.arange(exact + tokens, device=model.device)[None] % model.config.get_text_config().vocab_size
    total = 0
    for part in ids.split([exact, tokens] if exact else [tokens], dim=1):
        model(part, past_key_values=cache, use_cache=True, logits_to_keep=1)
        total = held_bytes(cache) - total
    if total % tokens:
        raise VerificationError(
            f"the cache holds {total} bytes for {tokens} tokens, not a whole number each",
            hint="something besides latents and rotary keys is cached",
        )
    return total // tokens


def is_quantised(config: PreTrainedConfig) -> bool:
    """Whether a model's cache holds integers."""
    return isinstance(config, MLAConfig) and any(shape.latent_bits < 16 for shape in config.shapes())


def new_cache(model: Any) -> Cache:
    """What a model fills when it generates; without sliding windows, which give up tokens."""
    # an export brings its own model file, and those of before there were few bits know no cache of their own
    make = getattr(model, "new_cache", GrowingCache)
    cache: Cache = make()
    return cache


def filled_bytes(cache: Cache) -> int:
    """Of what a cache holds, the bytes of its tokens: without room that waits for the next ones."""
    return held_bytes(cache) - sum(getattr(layer, "spare_bytes", 0) for layer in cache.layers)


def held_bytes(cache: Cache) -> int:
    """Bytes of every distinct allocation behind the tensors of the cache's layers."""
    tensors = [value for layer in cache.layers for value in vars(layer).values() if isinstance(value, Tensor)]
    storages = {storage.data_ptr(): storage.nbytes() for storage in (t.untyped_storage() for t in tensors)}
    return sum(storages.values())
