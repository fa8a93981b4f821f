# SPDX-License-Identifier: Apache-2.0
"""Tiny models whose attention differs from Llama's in kind, and their full-rank rewrites.

Soft-cap and windows that alternate with full attention (Gemma 2), norms of every head's query and key
(Qwen 3), and norms, windows and two rotary tables together (Gemma 3).
"""

from collections.abc import Callable
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from core.modeling import LatentAttention, LatentShape
from tests.modeling.exact_layouts import fill_pre_rope, fill_shared, pre_rope_widths, shared_widths
from tests.modeling.exact_mla import HEAD_DIM, HEADS, all_pairs, assemble, fill, per_head_widths

WINDOW = 5
# scores of the tiny model reach 4, so a cap of 2 bends them
SOFTCAP = 2.0
SHAPE: dict[str, Any] = {
    "vocab_size": 97,
    # not heads * head_dim: families whose heads are wider or narrower than the model
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "head_dim": HEAD_DIM,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 96,
    "pad_token_id": 1,
}
TYPES = ["sliding_attention", "full_attention", "sliding_attention"]


def gemma2() -> Any:
    config = Gemma2Config(
        **SHAPE,
        layer_types=TYPES,
        sliding_window=WINDOW,
        attn_logit_softcapping=SOFTCAP,
        final_logit_softcapping=30.0,
        query_pre_attn_scalar=24,
    )
    return Gemma2ForCausalLM(config)


def gemma3() -> Any:
    config = Gemma3TextConfig(
        **(SHAPE | {"num_key_value_heads": 1}),
        layer_types=TYPES,
        sliding_window=WINDOW,
        query_pre_attn_scalar=24,
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    )
    return Gemma3ForCausalLM(config)


def qwen3() -> Any:
    return Qwen3ForCausalLM(Qwen3Config(**SHAPE, attention_bias=True))


def qwen3_windows() -> Any:
    more = {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}
    return Qwen3ForCausalLM(Qwen3Config(**SHAPE, **more))


FAMILIES: dict[str, Callable[[], Any]] = {
    "gemma2": gemma2,
    "gemma3": gemma3,
    "qwen3": qwen3,
    "qwen3 with windows": qwen3_windows,
}
KINDS = ("per-head", "shared", "pre-rope")


def make_family(name: str, dtype: torch.dtype = torch.float64) -> Any:
    """A random model of the family; norms and biases are random too, so that a lost one shows."""
    torch.manual_seed(0)
    model = FAMILIES[name]()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("bias") or "norm" in key:
                parameter.add_(torch.randn(parameter.shape) * 0.3)
    return model.to(dtype).eval()


def rotary_of(model: Any, layer: int) -> Any:
    """The rotary table of one layer, by the one name that Llama has for it."""
    rotary = model.model.rotary_emb
    own = getattr(rotary, f"{getattr(model.config, 'layer_types', TYPES)[layer]}_inv_freq", None)
    return rotary if own is None else SimpleNamespace(inv_freq=own)


def has_norms(base: Any) -> bool:
    return hasattr(base.model.layers[0].self_attn, "q_norm")


def convert_family(base: Any, kinds: tuple[str, ...]) -> Any:
    """Full-rank latent layers, one kind each, repeated as needed."""
    kinds = (kinds * base.config.num_hidden_layers)[: base.config.num_hidden_layers]
    layers = [_widths(base, kind, index) for index, kind in enumerate(kinds)]
    model = assemble(base, layers)
    for index, (kind, new, old) in enumerate(zip(kinds, model.model.layers, base.model.layers, strict=True)):
        rotary = rotary_of(base, index)
        if has_norms(base):
            _fill_normed(new.self_attn, old.self_attn, kind, rotary)
        else:
            _fill(new.self_attn, old.self_attn, kind, rotary)
    return model


def _widths(base: Any, kind: str, index: int) -> dict[str, Any]:
    config, kept = base.config, all_pairs(base.config.num_key_value_heads)
    if has_norms(base):  # biases stay before the norms, but for the output's
        config = SimpleNamespace(num_key_value_heads=config.num_key_value_heads, attention_bias=False)
    widths = {
        "per-head": lambda: per_head_widths(config, kept),
        "shared": lambda: shared_widths(config, rotary_of(base, index)),
        "pre-rope": lambda: pre_rope_widths(config),
    }[kind]()
    own = (
        {"q_bias": base.config.attention_bias, "o_bias": base.config.attention_bias}
        if has_norms(base)
        else {}
    )
    # Gemma 3 has the key of a soft-cap in its config, and does not use it
    softcap = base.config.attn_logit_softcapping if base.config.model_type == "gemma2" else None
    return widths | own | {"qk_norm": has_norms(base), "softcap": softcap}


def _fill(new: LatentAttention, old: Any, kind: str, rotary: Any) -> None:
    if kind == "per-head":
        fill(new, old, all_pairs(new.kv_heads), rotary, "joint")
    else:
        (fill_shared if kind == "shared" else fill_pre_rope)(new, old, rotary)


@torch.no_grad()
def _fill_normed(new: LatentAttention, old: Any, kind: str, rotary: Any) -> None:
    """A plain latent layer over u = [normed queries; normed keys; values], taken apart again."""
    queries, keys = HEADS * HEAD_DIM, new.kv_heads * HEAD_DIM
    eye = torch.eye(queries + 2 * keys, dtype=old.q_proj.weight.dtype)
    over_u = SimpleNamespace(
        q_proj=SimpleNamespace(weight=eye[:queries]),
        k_proj=SimpleNamespace(weight=eye[queries:-keys]),
        v_proj=SimpleNamespace(weight=eye[-keys:]),
        o_proj=SimpleNamespace(weight=old.o_proj.weight),
    )
    shape = LatentShape(**(asdict(new.shape) | {"qk_norm": False, "q_bias": False, "o_bias": False}))
    plain = LatentAttention(
        shape, hidden_size=len(eye), heads=HEADS, kv_heads=new.kv_heads, scaling=1, dropout=0, layer_idx=0
    ).to(eye.dtype)
    plain.o_proj = torch.nn.Linear(queries, len(old.o_proj.weight), bias=False, dtype=eye.dtype)
    _fill(plain, over_u, kind, rotary)
    maps = plain.q_proj.weight.view(HEADS, -1, len(eye))
    own = [maps[head, :, head * HEAD_DIM : (head + 1) * HEAD_DIM] for head in range(HEADS)]
    assert sum(float(part.abs().sum()) for part in own) == float(maps.abs().sum()), "a head reads another"
    new.q_b_proj.weight.copy_(torch.cat(own))
    new.kv_a_proj_with_mqa.weight.copy_(plain.kv_a_proj_with_mqa.weight[:, queries:])
    for name in ("k_b_proj", "v_b_proj"):
        new.get_submodule(name).weight.copy_(plain.get_submodule(name).weight)
    new.inv_freq.copy_(plain.inv_freq)
    for name in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm"):
        new.get_submodule(name).load_state_dict(old.get_submodule(name).state_dict())


def windows_of(base: Any) -> list[int | None]:
    """The window of each layer."""
    config = base.config
    return [config.sliding_window if kind == "sliding_attention" else None for kind in config.layer_types]


def ids(batch: int = 2, tokens: int = 17) -> Tensor:
    """Random token ids, over three windows of them, that are neither padding nor the end."""
    return torch.randint(2, 96, (batch, tokens), generator=torch.Generator().manual_seed(3))
