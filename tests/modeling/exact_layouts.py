# SPDX-License-Identifier: Apache-2.0
"""Other full-rank rewrites of the tiny Llama: the pre-rope layout, one shared rope key, and layers mixed.

All of them are exact, so their logits are the base's.
"""

from typing import Any

import torch
from torch import Tensor

from core.modeling import LatentAttention
from tests.modeling.exact_mla import (
    HEAD_DIM,
    HEADS,
    PAIRS,
    all_pairs,
    assemble,
    fill,
    output_bias,
    per_head_widths,
)


def pre_rope_widths(config: Any, form: str = "joint") -> dict[str, Any]:
    """The latent is all keys before rotation and all values."""
    half, has_bias = config.num_key_value_heads * HEAD_DIM, config.attention_bias
    return {
        "layout": "pre-rope",
        "kv_lora_rank": 2 * half,
        "k_rank": half if form == "split" else 2 * half,
        "v_rank": half if form == "split" else 2 * half,
        "groups": 0,
        "qk_rope_head_dim": HEAD_DIM,
        "qk_nope_head_dim": 0,
        "v_head_dim": HEAD_DIM,
        "q_bias": has_bias,
        "kv_a_bias": False,
        "k_b_bias": has_bias,
        "o_bias": has_bias,
    }


@torch.no_grad()
def fill_pre_rope(new: LatentAttention, old: Any, rotary: Any) -> None:
    """Channels of a joint latent are shuffled, so that an order taken for granted shows."""
    shape, keys = new.shape, old.k_proj.weight.shape[0]
    order = torch.arange(shape.kv_lora_rank)
    if shape.k_rank == shape.kv_lora_rank:
        order = torch.randperm(shape.kv_lora_rank, generator=torch.Generator().manual_seed(5))
    new.q_proj.weight.copy_(old.q_proj.weight)
    new.kv_a_proj_with_mqa.weight.copy_(torch.cat([old.k_proj.weight, old.v_proj.weight])[order])
    picked = torch.eye(shape.kv_lora_rank, dtype=old.q_proj.weight.dtype)[:, order]
    new.k_b_proj.weight.copy_(picked[:keys, : shape.k_rank])
    new.v_b_proj.weight.copy_(picked[keys:, -shape.v_rank :])
    new.o_proj.weight.copy_(old.o_proj.weight)
    new.inv_freq.copy_(rotary.inv_freq[None])
    if shape.q_bias:
        new.q_proj.bias.copy_(old.q_proj.bias)
        new.k_b_proj.bias.copy_(old.k_proj.bias)
        new.o_proj.bias.copy_(output_bias(old, keys // HEAD_DIM))


def turning(rotary: Any) -> Tensor:
    """The pairs of the base that rotate at all; a test may have stopped some of them."""
    return rotary.inv_freq.nonzero().flatten()


def shared_widths(config: Any, rotary: Any) -> dict[str, Any]:
    """TransMLA's form: one rope key with a slot per turning pair of every KV head, beside all d_h dims."""
    half, has_bias = config.num_key_value_heads * HEAD_DIM, config.attention_bias
    return {
        "kv_lora_rank": 2 * half,
        "k_rank": 2 * half,
        "v_rank": 2 * half,
        "groups": 1,
        "qk_rope_head_dim": 2 * config.num_key_value_heads * len(turning(rotary)),
        "qk_nope_head_dim": HEAD_DIM,
        "v_head_dim": HEAD_DIM,
        "q_bias": has_bias,
        "kv_a_bias": has_bias,
        "o_bias": has_bias,
    }


@torch.no_grad()
def fill_shared(new: LatentAttention, old: Any, rotary: Any) -> None:
    """A query head reads the slots of its own KV head and has zeros for the others.

    Pairs that do not turn go through the latent; of those that turn, U_k gives zeros.
    """
    kv_heads, pairs = old.k_proj.weight.shape[0] // HEAD_DIM, turning(rotary)
    dims = torch.stack([pairs, pairs + PAIRS])  # (half, pair) of one head
    heads = torch.arange(kv_heads)[None, :, None] * HEAD_DIM
    rows = (dims[:, None] + heads).flatten()  # first halves of all heads, then second halves
    # (KV head, slot, dim of a head): whether this slot holds this dim
    place = rows[None, :, None] == torch.arange(kv_heads * HEAD_DIM).view(kv_heads, 1, HEAD_DIM)
    place = place.to(old.q_proj.weight.dtype)

    query = old.q_proj.weight.view(kv_heads, HEADS // kv_heads, HEAD_DIM, -1)
    slots = torch.einsum("gsd,ghdx->ghsx", place, query)
    new.q_proj.weight.copy_(torch.cat([query, slots], dim=2).flatten(0, 2))
    new.kv_a_proj_with_mqa.weight.copy_(
        torch.cat([old.k_proj.weight, old.v_proj.weight, old.k_proj.weight[rows]])
    )
    keys = kv_heads * HEAD_DIM
    eye = torch.eye(2 * keys, dtype=place.dtype)
    new.k_b_proj.weight.copy_(eye[:keys].index_fill(0, rows, 0))
    new.v_b_proj.weight.copy_(eye[keys:])
    new.o_proj.weight.copy_(old.o_proj.weight)
    new.inv_freq.copy_(rotary.inv_freq[pairs].repeat(kv_heads)[None])
    if new.shape.q_bias:
        bias = old.q_proj.bias.view(kv_heads, -1, HEAD_DIM)
        new.q_proj.bias.copy_(torch.cat([bias, torch.einsum("gsd,ghd->ghs", place, bias)], dim=2).flatten())
        latent_bias = place.new_zeros(2 * keys)
        new.kv_a_proj_with_mqa.bias.copy_(torch.cat([latent_bias, old.k_proj.bias[rows]]))
        new.o_proj.bias.copy_(output_bias(old, kv_heads))


def convert_layouts(base: Any, kinds: tuple[str, ...]) -> Any:
    """One kind per layer, repeated as needed: "per-head", "shared", "pre-rope" or "pre-rope split"."""
    config, rotary = base.config, base.model.rotary_emb
    kinds = (kinds * config.num_hidden_layers)[: config.num_hidden_layers]
    kept = all_pairs(config.num_key_value_heads)
    widths = {
        "per-head": per_head_widths(config, kept),
        "shared": shared_widths(config, rotary),
        "pre-rope": pre_rope_widths(config),
        "pre-rope split": pre_rope_widths(config, "split"),
    }
    model = assemble(base, [widths[kind] for kind in kinds])
    for kind, new, old in zip(kinds, model.model.layers, base.model.layers, strict=True):
        if kind == "per-head":
            fill(new.self_attn, old.self_attn, kept, rotary, "joint")
        elif kind == "shared":
            fill_shared(new.self_attn, old.self_attn, rotary)
        else:
            fill_pre_rope(new.self_attn, old.self_attn, rotary)
    return model


def set_tile(model: Any, tile: int) -> Any:
    """Let every layer rebuild keys in tiles of `tile` cached tokens, so that short texts have several."""
    for layer in model.model.layers:
        layer.self_attn.tile = tile
    return model
