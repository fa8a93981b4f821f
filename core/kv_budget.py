# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of the KV cache: numbers, bytes, contexts. Integers only."""

DTYPE_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}


def full_numbers(n_kv: int, head_dim: int) -> int:
    """Numbers MHA/GQA caches per token and layer: keys and values of every KV head."""
    return 2 * n_kv * head_dim


def latent_numbers(kv_lora_rank: int, groups: int, qk_rope_head_dim: int) -> int:
    """Numbers a latent layer caches per token: r + groups x d_r.

    `groups` is 0 in the pre-rope layout, which caches no rotated key: r.
    """
    return kv_lora_rank + groups * qk_rope_head_dim


def cache_bytes(bytes_per_token: int, context: int, batch: int) -> int:
    """Size of a filled cache in bytes."""
    return bytes_per_token * context * batch
