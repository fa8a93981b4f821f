# SPDX-License-Identifier: Apache-2.0
"""A pretrained transformer whose attention was converted to Multi-head Latent Attention (MLA).

Self-contained: this file is copied beside the weights of every converted model and loaded through `auto_map`.
The model is the original architecture, built by transformers from the original config, with the attention
module of each layer replaced. Nothing of transformers is patched.

Each layer caches, per token, one latent c (kv_lora_rank numbers, read by all heads) and `groups` rotated keys
(qk_rope_head_dim numbers each):

    score of head h   (U_k[h] c_s) . q_nope[h]  +  k_rope[group(h)]_s . q_rope[h]
    value of head h   U_v[h] c_s

Prefill expands keys and values and runs SDPA. Decode is absorbed: U_k moves to the query and U_v behind the
weighted sum, so a step reads the latent itself and never rebuilds keys or values.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache

LAYOUT = "latent+rope"


@dataclass(frozen=True)
class LatentShape:
    """Widths of one converted layer; the fields are the keys of an entry of `MLAConfig.mla_layers`.

    U_k reads the first `k_rank` channels of the latent, U_v the last `v_rank`: both are the whole latent when
    keys and values share it, and they add up to it when each has its own part.
    """

    kv_lora_rank: int
    k_rank: int
    v_rank: int
    groups: int
    qk_rope_head_dim: int
    qk_nope_head_dim: int
    v_head_dim: int
    q_bias: bool
    kv_a_bias: bool
    o_bias: bool

    def check(self, kv_heads: int) -> None:
        """Raise ValueError for widths no layer can have."""
        rank = self.kv_lora_rank
        if rank < 1 or not 0 <= self.k_rank <= rank or not 1 <= self.v_rank <= rank:
            raise ValueError(f"k_rank {self.k_rank} and v_rank {self.v_rank} do not fit a latent of {rank}")
        if self.groups not in (1, kv_heads):
            raise ValueError(f"groups is {self.groups}, expected 1 or the number of KV heads, {kv_heads}")
        if self.qk_rope_head_dim < 0 or self.qk_rope_head_dim % 2:
            raise ValueError(f"qk_rope_head_dim is {self.qk_rope_head_dim}, expected an even number")
        if self.qk_nope_head_dim < 0 or self.qk_nope_head_dim + self.qk_rope_head_dim < 1:
            raise ValueError("a head has neither rotary nor other dims")


class MLAConfig(PreTrainedConfig):
    """Config of a converted model.

    base_config: config.json of the original model, model_type included; the source of truth for everything
    outside attention. Its attributes are also attributes of this config, as generation and tools expect.
    mla_layers: one LatentShape per layer, as dicts.
    layout: what the cache holds; only "latent+rope" exists.
    """

    model_type = "mla_workbench"
    keys_to_ignore_at_inference = ("past_key_values",)

    # transformers builds configs without arguments, so every field has a default
    base_config: dict[str, Any] | None = None
    mla_layers: list[dict[str, Any]] | None = None
    layout: str = LAYOUT

    def __post_init__(self, **kwargs: Any) -> None:
        if self.layout != LAYOUT:
            raise ValueError(f"layout '{self.layout}' is unknown, this model file knows '{LAYOUT}'")
        if self.base_config is not None:
            # what every config has (dtype, architectures, ...) describes this model and not the original
            own = {field.name for field in fields(PreTrainedConfig)} | {"model_type", "auto_map"}
            inherited = self.base().to_dict()
            kwargs = {key: value for key, value in inherited.items() if key not in own} | kwargs
        super().__post_init__(**kwargs)

    def base(self) -> PreTrainedConfig:
        """A new config of the original architecture."""
        return AutoConfig.for_model(**(self.base_config or {}))

    def shapes(self) -> list[LatentShape]:
        """The widths of every layer, checked; raises ValueError when they do not fit the model."""
        shapes = [LatentShape(**layer) for layer in self.mla_layers or []]
        if len(shapes) != self.num_hidden_layers:
            raise ValueError(f"mla_layers has {len(shapes)} entries for {self.num_hidden_layers} layers")
        for shape in shapes:
            shape.check(self.num_key_value_heads)
        return shapes


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs (i, i + d_r/2) of the last dim; x: (..., d_r), cos and sin: (..., d_r/2)."""
    real, imaginary = x.chunk(2, dim=-1)
    return torch.cat((real * cos - imaginary * sin, imaginary * cos + real * sin), dim=-1)


class LatentAttention(nn.Module):
    """Attention of one layer over a cached latent and cached rotary keys."""

    inv_freq: Tensor

    def __init__(
        self,
        shape: LatentShape,
        *,
        hidden_size: int,
        heads: int,
        kv_heads: int,
        scaling: float,
        dropout: float,
        layer_idx: int,
    ) -> None:
        """`scaling` multiplies the scores: the original layer's, whatever the widths became."""
        super().__init__()
        self.shape = shape
        self.heads = heads
        self.kv_heads = kv_heads
        self.scaling = scaling
        self.dropout = dropout
        self.layer_idx = layer_idx
        # None: absorbed when one token is decoded, expanded otherwise; True or False forces one of them
        self.absorbed: bool | None = None

        rope, nope = shape.qk_rope_head_dim, shape.qk_nope_head_dim
        cached = shape.kv_lora_rank + shape.groups * rope
        self.q_proj = nn.Linear(hidden_size, heads * (nope + rope), bias=shape.q_bias)
        self.kv_a_proj_with_mqa = nn.Linear(hidden_size, cached, bias=shape.kv_a_bias)
        with warnings.catch_warnings():
            # a layer that keeps all its rotary dims has no other key dims: its U_k is empty on purpose
            warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
            self.k_b_proj = nn.Linear(shape.k_rank, kv_heads * nope, bias=False)
        self.v_b_proj = nn.Linear(shape.v_rank, kv_heads * shape.v_head_dim, bias=False)
        self.o_proj = nn.Linear(heads * shape.v_head_dim, hidden_size, bias=shape.o_bias)
        self.register_buffer("inv_freq", torch.ones(shape.groups, rope // 2, dtype=torch.float32))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "LatentAttention":
        """Move with the model, but keep the frequencies in float32 when the model is cast.

        A frequency rounded to bfloat16 is off by up to 0.2 %: a radian after 500 tokens for the fastest pair.
        """
        exact = self.inv_freq
        super()._apply(fn, recurse)
        if self.inv_freq.dtype != torch.float32:
            self.inv_freq = exact.to(self.inv_freq.device, torch.float32)
        return self

    def forward(
        self,
        hidden_states: Tensor,
        position_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """hidden_states: (batch, tokens, hidden_size), position_ids: (batch or 1, tokens).

        attention_mask: (batch or 1, 1, tokens, cached tokens), bool or added to the scores; None is causal.
        The rotary table the original model passes in `kwargs` is not used: a layer has its own frequencies.
        """
        shape = self.shape
        query = self.q_proj(hidden_states).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        q_nope, q_rope = query.split((shape.qk_nope_head_dim, shape.qk_rope_head_dim), dim=-1)
        latent, k_rope = self.kv_a_proj_with_mqa(hidden_states).split(
            (shape.kv_lora_rank, shape.groups * shape.qk_rope_head_dim), dim=-1
        )
        latent = latent.unsqueeze(1)
        k_rope = k_rope.unflatten(-1, (shape.groups, shape.qk_rope_head_dim)).transpose(1, 2)

        cos, sin = self._rotations(position_ids, hidden_states.dtype)
        k_rope = rotate(k_rope, cos, sin)
        # consecutive query heads share a group, so heads fold into (groups, heads of a group)
        by_group = q_rope.unflatten(1, (shape.groups, -1))
        q_rope = rotate(by_group, cos.unsqueeze(2), sin.unsqueeze(2)).flatten(1, 2)

        if past_key_values is not None:
            latent, k_rope = past_key_values.update(latent, k_rope, self.layer_idx)
        is_absorbed = query.shape[2] == 1 if self.absorbed is None else self.absorbed
        attend = self._attend_absorbed if is_absorbed else self._attend_expanded
        output = attend(q_nope, q_rope, latent.squeeze(1), k_rope, attention_mask)
        return self.o_proj(output.transpose(1, 2).flatten(2)), None

    def _rotations(self, position_ids: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """cos and sin, (batch or 1, groups, tokens, d_r/2); angles in float32, as in transformers."""
        positions = position_ids[:, None, :, None].to(self.inv_freq.device, torch.float32)
        angles = positions * self.inv_freq[None, :, None, :]
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def _attend_expanded(
        self, q_nope: Tensor, q_rope: Tensor, latent: Tensor, k_rope: Tensor, mask: Tensor | None
    ) -> Tensor:
        """SDPA over rebuilt keys and values.

        q_nope: (batch, heads, tokens, d_n), q_rope: (batch, heads, tokens, d_r), latent: (batch, cached, r),
        k_rope: (batch, groups, cached, d_r).  Returns (batch, heads, tokens, v_head_dim).
        """
        tokens = q_nope.shape[2]
        if mask is None and tokens > 1:
            # cached beyond the new tokens is the empty end of a static cache: causality hides it anyway
            latent, k_rope = latent[:, :tokens], k_rope[:, :, :tokens]
        shape = self.shape
        k_nope = self.k_b_proj(latent[..., : shape.k_rank])
        k_nope = k_nope.unflatten(-1, (self.kv_heads, shape.qk_nope_head_dim)).transpose(1, 2)
        value = self.v_b_proj(latent[..., shape.kv_lora_rank - shape.v_rank :])
        value = value.unflatten(-1, (self.kv_heads, shape.v_head_dim)).transpose(1, 2)
        key = torch.cat((k_nope, k_rope.expand(-1, self.kv_heads, -1, -1)), dim=-1)
        copies = self.heads // self.kv_heads
        # fused kernels share KV heads only without a mask and at equal widths
        is_shared = mask is None and key.shape[-1] == value.shape[-1]
        if not is_shared:
            key, value = (x.repeat_interleave(copies, dim=1) for x in (key, value))
        return F.scaled_dot_product_attention(
            torch.cat((q_nope, q_rope), dim=-1),
            key,
            value,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=mask is None and tokens > 1,
            scale=self.scaling,
            enable_gqa=is_shared and copies > 1,
        )

    def _attend_absorbed(
        self, q_nope: Tensor, q_rope: Tensor, latent: Tensor, k_rope: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Attention on the latent itself, shared by all heads and never copied; shapes as when expanded."""
        shape, tokens = self.shape, q_nope.shape[2]
        if mask is None and tokens > 1:
            latent, k_rope = latent[:, :tokens], k_rope[:, :, :tokens]
            mask = torch.ones(tokens, tokens, dtype=torch.bool, device=latent.device).tril()
        up_k = self.k_b_proj.weight.view(self.kv_heads, shape.qk_nope_head_dim, shape.k_rank)
        up_v = self.v_b_proj.weight.view(self.kv_heads, shape.v_head_dim, shape.v_rank)
        by_kv_head = (self.kv_heads, self.heads // self.kv_heads)

        q_latent = torch.einsum("bghtd,gdk->bghtk", q_nope.unflatten(1, by_kv_head), up_k)
        scores = q_latent.flatten(1, 3) @ latent[..., : shape.k_rank].transpose(1, 2)
        rope_scores = q_rope.unflatten(1, (shape.groups, -1)).flatten(2, 3) @ k_rope.transpose(2, 3)
        # at least float32, and float64 for a float64 model
        exact = torch.promote_types(scores.dtype, torch.float32)
        scores = scores.view(-1, self.heads, tokens, latent.shape[1]).to(exact)
        scores = (scores + rope_scores.view_as(scores)) * self.scaling
        if mask is not None and mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, torch.finfo(exact).min)
        elif mask is not None:
            scores = scores + mask
        weights = F.dropout(scores.softmax(dim=-1).to(latent.dtype), self.dropout, self.training)
        mixed = weights.flatten(1, 2) @ latent[..., shape.kv_lora_rank - shape.v_rank :]
        mixed = mixed.view(-1, *by_kv_head, tokens, shape.v_rank)
        return torch.einsum("bghtk,gdk->bghtd", mixed, up_v).flatten(1, 2)


class MLAForCausalLM(PreTrainedModel, GenerationMixin):
    """The original language model with latent attention; all other tensors keep their names."""

    config_class = MLAConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    # says so to quantisers; the loader also goes by the dtype of the buffer itself (`strict` is for bfloat16)
    _keep_in_fp32_modules_strict = ["inv_freq"]  # noqa: RUF012 - read by transformers

    def __init__(self, config: MLAConfig) -> None:
        super().__init__(config)
        # inherits whatever is active: the meta device and the dtype of from_pretrained
        base = AutoModelForCausalLM.from_config(
            config.base(), attn_implementation=config._attn_implementation, dtype=torch.get_default_dtype()
        )
        # yarn multiplies cos and sin, so every original score, by a constant squared
        rope_scaling = base.model.rotary_emb.attention_scaling**2
        for index, (layer, shape) in enumerate(zip(base.model.layers, config.shapes(), strict=True)):
            layer.self_attn = LatentAttention(
                shape,
                hidden_size=config.hidden_size,
                heads=config.num_attention_heads,
                kv_heads=config.num_key_value_heads,
                scaling=layer.self_attn.scaling * rope_scaling,
                dropout=layer.self_attn.attention_dropout,
                layer_idx=index,
            )
        for name, child in base.named_children():
            self.add_module(name, child)
        self._base_class = type(base)
        self._tied_weights_keys = base._tied_weights_keys
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> Any:
        """The original model's own forward on this model's modules: its head and loss stay as they are.

        The arguments are spelled out because `generate` reads them to know what it may pass.
        """
        return self._base_class.forward(
            self,
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            labels=labels,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )
