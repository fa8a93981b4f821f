# SPDX-License-Identifier: Apache-2.0
"""One decode step of attention over a filled cache: the original's SDPA, absorbed, and pre-rope tiled.

Shapes of SmolLM2-135M (9 heads over 3 KV heads of 64) at 120 of 384 cached numbers, float32, random weights.
Each step is the whole attention module, projections included, on a cache that does not grow: how a cache
grows is the cache's cost. The three take turns, so that a busy machine slows them alike; medians.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

from core.modeling import LatentAttention, LatentShape

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, ROPE = 576, 9, 3, 64, 32
SIZES = ((1, 2048), (1, 8192), (8, 2048))
ROUNDS, WARM_UP = 40, 5


class Filled:
    """A cache that is full and stays as it is."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self._content = keys, values

    def update(self, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return self._content

    def get_seq_length(self, _: int = 0) -> int:
        return self._content[0].shape[2]


def original() -> Any:
    config = LlamaConfig(
        hidden_size=HIDDEN,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HEAD_DIM,
        attn_implementation="sdpa",
    )
    return LlamaAttention(config, 0).eval(), LlamaRotaryEmbedding(config)


def latent(**widths: Any) -> LatentAttention:
    shape = LatentShape(v_head_dim=HEAD_DIM, q_bias=False, kv_a_bias=False, o_bias=False, **widths)
    shape.check(KV_HEADS)
    settings = {"hidden_size": HIDDEN, "heads": HEADS, "kv_heads": KV_HEADS, "scaling": HEAD_DIM**-0.5}
    return LatentAttention(shape, **settings, dropout=0.0, layer_idx=0).eval()


def steps(batch: int, context: int) -> dict[str, Callable[[], Any]]:
    """Name -> one decode step of `batch` sequences after `context` cached tokens."""
    base, rotary = original()
    absorbed = latent(
        kv_lora_rank=88, k_rank=88, v_rank=88, groups=1, qk_rope_head_dim=ROPE, qk_nope_head_dim=HEAD_DIM
    )
    pre_rope = latent(
        layout="pre-rope",
        kv_lora_rank=120,
        k_rank=120,
        v_rank=120,
        groups=0,
        qk_rope_head_dim=HEAD_DIM,
        qk_nope_head_dim=0,
    )

    def filled(heads: int, keys: int, values: int) -> Filled:
        return Filled(torch.randn(batch, heads, context, keys), torch.randn(batch, heads, context, values))

    hidden, positions = torch.randn(batch, 1, HIDDEN), torch.tensor([[context - 1]])
    rotation = rotary(hidden, positions)
    whole, joint, alone = filled(KV_HEADS, HEAD_DIM, HEAD_DIM), filled(1, 88, ROPE), filled(1, 120, 0)
    return {
        "original SDPA": lambda: base(
            hidden, position_embeddings=rotation, attention_mask=None, past_key_values=whole
        ),
        "absorbed 88 + 32": lambda: absorbed(hidden, positions, past_key_values=joint),
        "pre-rope 120": lambda: pre_rope(hidden, positions, past_key_values=alone),
    }


@torch.no_grad()
def test_decode_attention_of_both_layouts() -> None:
    print(
        f"\none decode step, attention module, {torch.get_num_threads()} threads, medians of {ROUNDS} in ms"
    )
    for batch, context in SIZES:
        run = steps(batch, context)
        seconds: dict[str, list[float]] = {name: [] for name in run}
        for _ in range(WARM_UP + ROUNDS):
            for name, step in run.items():
                started = time.perf_counter()
                step()
                seconds[name].append(time.perf_counter() - started)
        figures = ", ".join(
            f"{name} {1000 * statistics.median(taken[WARM_UP:]):.2f}" for name, taken in seconds.items()
        )
        print(f"batch {batch} x context {context}: {figures}")
