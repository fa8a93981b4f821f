# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of the KV cache: numbers, bytes, contexts. Integers only."""

# at least so many bits store a rotary key
ROPE_BITS = 8
# tokens of a sequence that a quantised cache keeps exact: 4 at the start and the newest 32
EXACT_TOKENS = 4 + 32
DTYPE_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}


def full_numbers(n_kv: int, head_dim: int) -> int:
    """Numbers MHA/GQA caches per token and layer: keys and values of every KV head."""
    return 2 * n_kv * head_dim


def latent_numbers(kv_lora_rank: int, groups: int, qk_rope_head_dim: int) -> int:
    """Numbers a latent layer caches per token: r + groups x d_r.

    `groups` is 0 in the pre-rope layout, which caches no rotated key: r.
    """
    return kv_lora_rank + groups * qk_rope_head_dim


def latent_bytes(kv_lora_rank: int, rope_numbers: int, bits: int, dtype_bytes: int) -> int:
    """Bytes a latent layer caches per token, but for the few tokens that a quantised cache keeps exact.

    `bits` 16 stands for the model's dtype. Below, the latent and its `rope_numbers` rotary keys, these with 8
    bits, are whole bytes each and have one more for the size of the token.
    """
    if bits == 16:
        return (kv_lora_rank + rope_numbers) * dtype_bytes
    return _packed(kv_lora_rank, bits) + _packed(rope_numbers, max(bits, ROPE_BITS))


def _packed(numbers: int, bits: int) -> int:
    return 1 + -(-numbers * bits // 8) if numbers else 0


def cache_bytes(bytes_per_token: int, context: int, batch: int) -> int:
    """Size of a filled cache in bytes."""
    return bytes_per_token * context * batch
