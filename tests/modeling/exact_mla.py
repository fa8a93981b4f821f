# SPDX-License-Identifier: Apache-2.0
"""Rewrite a tiny Llama as a full-rank latent model by hand, without the engine: the reference of these tests.

The latent is [non-rotary key rows; value rows] and the up-projections pick from it, so nothing is lost.
"""

import json
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from core.modeling import LatentAttention, LatentShape, MLAConfig, MLAForCausalLM

HEADS, HEAD_DIM, PAIRS = 4, 16, 8


def make_base(*, kv_heads: int = 2, seed: int = 0, dtype: torch.dtype = torch.float64, **more: Any) -> Any:
    """A random two-layer Llama; biases are random too, so that a lost one shows."""
    torch.manual_seed(seed)
    settings = {
        "vocab_size": 97,
        "hidden_size": HEADS * HEAD_DIM,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 128,
        "initializer_range": 0.2,
        "bos_token_id": 0,
        "eos_token_id": 96,
        "pad_token_id": 1,
        "tie_word_embeddings": False,
    }
    model = LlamaForCausalLM(LlamaConfig(**(settings | more)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.3)
    return model.to(dtype).eval()


def all_pairs(kv_heads: int) -> Tensor:
    """Every pair kept, (kv_heads, 8), in another order for each KV head."""
    generator = torch.Generator().manual_seed(7)
    return torch.stack([torch.randperm(PAIRS, generator=generator) for _ in range(kv_heads)])


def assemble(base: Any, layers: list[dict[str, Any]]) -> Any:
    """A latent model with layers of these widths and everything outside attention from `base`."""
    model = MLAForCausalLM(
        MLAConfig(
            base_config=json.loads(base.config.to_json_string()),
            mla_layers=[asdict(LatentShape(**layer)) for layer in layers],
            architectures=["MLAForCausalLM"],
        )
    ).to(base.dtype)
    outside = {name: t for name, t in base.state_dict().items() if "self_attn" not in name}
    found = model.load_state_dict(outside, strict=False)
    assert not found.unexpected_keys, "a tensor outside attention has another name than in the base"
    return model.eval()


def per_head_widths(
    config: Any, kept: Tensor, form: str = "joint", groups: int | None = None
) -> dict[str, Any]:
    """Full-rank widths of latent+rope with pairs `kept` (kv_heads, n) rotary."""
    kv_heads, has_bias = config.num_key_value_heads, config.attention_bias
    nope = HEAD_DIM - 2 * kept.shape[1]
    k_rank, v_rank = kv_heads * nope, kv_heads * HEAD_DIM
    rank = k_rank + v_rank
    return {
        "kv_lora_rank": rank,
        "k_rank": k_rank if form == "split" else rank,
        "v_rank": v_rank if form == "split" else rank,
        "groups": groups or kv_heads,
        "qk_rope_head_dim": 2 * kept.shape[1],
        "qk_nope_head_dim": nope,
        "v_head_dim": HEAD_DIM,
        "q_bias": has_bias,
        "kv_a_bias": has_bias,
        "o_bias": has_bias,
    }


def convert_exactly(base: Any, kept: Tensor, *, form: str = "joint", groups: int | None = None) -> Any:
    """The latent model that keeps pairs `kept` (kv_heads, n) rotary and loses nothing else."""
    layers = [per_head_widths(base.config, kept, form, groups)] * base.config.num_hidden_layers
    model = assemble(base, layers)
    for new, old in zip(model.model.layers, base.model.layers, strict=True):
        fill(new.self_attn, old.self_attn, kept, base.model.rotary_emb, form)
    return model


@torch.no_grad()
def fill(new: LatentAttention, old: Any, kept: Tensor, rotary: Any, form: str) -> None:
    """Copy the projections of `old`; the key bias of non-rotary dims shifts all scores of a query alike."""
    shape, kv_heads = new.shape, kept.shape[0]
    rope, nope = zip(*(split_dims(pairs) for pairs in kept), strict=True)
    head_rows = [torch.cat([nope[h * kv_heads // HEADS], rope[h * kv_heads // HEADS]]) for h in range(HEADS)]
    q_rows = torch.cat([rows + h * HEAD_DIM for h, rows in enumerate(head_rows)])
    nope_rows = torch.cat([rows + g * HEAD_DIM for g, rows in enumerate(nope)])
    rope_rows = torch.cat([rows + g * HEAD_DIM for g, rows in enumerate(rope[: shape.groups])])

    new.q_proj.weight.copy_(old.q_proj.weight[q_rows])
    new.kv_a_proj_with_mqa.weight.copy_(
        torch.cat([old.k_proj.weight[nope_rows], old.v_proj.weight, old.k_proj.weight[rope_rows]])
    )
    eye = torch.eye(shape.kv_lora_rank, dtype=old.q_proj.weight.dtype)
    keys = len(nope_rows)
    new.k_b_proj.weight.copy_(eye[:keys, : shape.k_rank])
    new.v_b_proj.weight.copy_(eye[keys:, -shape.v_rank :])
    new.o_proj.weight.copy_(old.o_proj.weight)
    new.inv_freq.copy_(rotary.inv_freq[kept[: shape.groups]])
    if shape.q_bias:
        new.q_proj.bias.copy_(old.q_proj.bias[q_rows])
        latent_bias = torch.zeros(shape.kv_lora_rank, dtype=eye.dtype)
        new.kv_a_proj_with_mqa.bias.copy_(torch.cat([latent_bias, old.k_proj.bias[rope_rows]]))
        new.o_proj.bias.copy_(output_bias(old, kv_heads))


def output_bias(old: Any, kv_heads: int) -> Tensor:
    """Attention weights add up to one, so a value bias is a constant after them."""
    value_bias = old.v_proj.bias.view(kv_heads, -1).repeat_interleave(HEADS // kv_heads, 0).flatten()
    return old.o_proj.bias + old.o_proj.weight @ value_bias


def split_dims(pairs: Tensor) -> tuple[Tensor, Tensor]:
    """(rotary dims, the others) of one head: pair f is dims f and f + 8."""
    rope = torch.cat([pairs, pairs + PAIRS])
    return rope, torch.tensor([d for d in range(HEAD_DIM) if d not in rope.tolist()], dtype=torch.int64)


def force(model: Any, absorbed: bool | None) -> Any:
    """Choose the path of every layer."""
    for layer in model.model.layers:
        layer.self_attn.absorbed = absorbed
    return model


def some_ids(batch: int = 2, tokens: int = 13, seed: int = 3) -> Tensor:
    """Random token ids that are neither padding nor the end."""
    return torch.randint(2, 96, (batch, tokens), generator=torch.Generator().manual_seed(seed))


def distance(a: Tensor, b: Tensor) -> float:
    """Largest absolute difference."""
    return float((a - b).abs().max())
