# SPDX-License-Identifier: Apache-2.0
"""A pretrained transformer whose attention was converted to Multi-head Latent Attention (MLA).

Self-contained: this file is copied beside the weights of every converted model and loaded through `auto_map`.
The model is the original architecture, built by transformers from the original config, with the attention
module of each layer replaced. Nothing of transformers is patched.

Each layer caches, per token, one latent c (kv_lora_rank numbers, read by all heads). Values are U_v[h] c_s.
What else is cached, and how a key is scored, is the layer's layout:

    latent+rope   `groups` rotated keys of qk_rope_head_dim numbers each are cached beside the latent;
                  score of head h:  (U_k[h] c_s) . q_nope[h]  +  k_rope[group(h)]_s . q_rope[h]
    pre-rope      nothing else is cached: keys are rebuilt and rotated to their positions when they are read;
                  score of head h:  (R_s (U_k[h] c_s + b_k[h])) . q_rope[h]

Prefill expands keys and values and runs SDPA. Decode never does: U_v moves behind the weighted sum, which
runs over latents. U_k moves to the query (latent+rope), or keys are rebuilt a tile of positions at a time,
since a rotation stands between U_k and the query (pre-rope).
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

LATENT_ROPE, PRE_ROPE = "latent+rope", "pre-rope"
# cached tokens, over all sequences of a batch, whose keys are rebuilt at once when a pre-rope layer decodes;
# on one CPU core, 8 x 2048 cached tokens take 18 ms at 1024 and 43 ms at 8192, where keys leave its caches
TILE = 1024


@dataclass(frozen=True)
class LatentShape:
    """Widths of one converted layer; the fields are the keys of an entry of `MLAConfig.mla_layers`.

    U_k reads the first `k_rank` channels of the latent, U_v the last `v_rank`: both are the whole latent when
    keys and values share it, and they add up to it when each has its own part. A pre-rope layer caches no
    rotated key, so its `groups` is 0, and all of a rebuilt key rotates, so its `qk_nope_head_dim` is 0.
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
    k_b_bias: bool = False
    layout: str = LATENT_ROPE

    @property
    def cached_rope_numbers(self) -> int:
        """Numbers cached per token besides the latent."""
        return self.groups * self.qk_rope_head_dim

    @property
    def rebuilt_key_dims(self) -> int:
        """Dims of a head's key that U_k makes of the latent."""
        return self.qk_rope_head_dim if self.layout == PRE_ROPE else self.qk_nope_head_dim

    @property
    def rotations(self) -> int:
        """Rows of inv_freq: one per cached rotary key, one for all the rebuilt keys of a pre-rope layer."""
        return self.groups or 1

    def check(self, kv_heads: int) -> None:
        """Raise ValueError for widths no layer can have."""
        rank = self.kv_lora_rank
        if rank < 1 or not 0 <= self.k_rank <= rank or not 1 <= self.v_rank <= rank:
            raise ValueError(f"k_rank {self.k_rank} and v_rank {self.v_rank} do not fit a latent of {rank}")
        if self.qk_rope_head_dim < 0 or self.qk_rope_head_dim % 2:
            raise ValueError(f"qk_rope_head_dim is {self.qk_rope_head_dim}, expected an even number")
        if self.qk_nope_head_dim < 0 or self.qk_nope_head_dim + self.qk_rope_head_dim < 1:
            raise ValueError("a head has neither rotary nor other dims")
        if self.layout == PRE_ROPE:
            if self.groups or self.qk_nope_head_dim:
                raise ValueError("a pre-rope layer has no cached rope key (groups 0) and only rotary dims")
        elif self.layout != LATENT_ROPE:
            raise ValueError(f"layout '{self.layout}' is unknown, not '{LATENT_ROPE}' or '{PRE_ROPE}'")
        elif self.groups not in (1, kv_heads):
            raise ValueError(f"groups is {self.groups}, expected 1 or the number of KV heads, {kv_heads}")
        elif self.k_b_bias:
            raise ValueError("a bias of keys that do not rotate cancels in the softmax: k_b_bias is pre-rope")


class MLAConfig(PreTrainedConfig):
    """Config of a converted model.

    base_config: config.json of the original model, model_type included; the source of truth for everything
    outside attention. Its attributes are also attributes of this config, as generation and tools expect.
    mla_layers: one LatentShape per layer, as dicts; what a layer's cache holds is its `layout`.
    """

    model_type = "mla_workbench"
    keys_to_ignore_at_inference = ("past_key_values",)

    # transformers builds configs without arguments, so every field has a default
    base_config: dict[str, Any] | None = None
    mla_layers: list[dict[str, Any]] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
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


def masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Scores (batch, heads, tokens, cached) under a mask: bool, or added to them.

    Hidden ones get the lowest finite number: a row with nothing to see must not become NaN.
    """
    if mask is None:
        return scores
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores + mask


def slot_positions(position_ids: Tensor, past: int | Tensor, cached: int) -> Tensor:
    """Positions (batch or 1, cached) of a cache's slots; position_ids (batch or 1, tokens) are the new ones.

    The new tokens stand after `past` slots, where they say. Those before are contiguous up to the first of
    them: RoPE is relative, so left padding may give their first slots any number. Behind them is the empty
    end of a static cache, which no one attends to.
    """
    slots = torch.arange(cached, device=position_ids.device) - past
    nearest = slots.clamp(0, position_ids.shape[1] - 1)
    return position_ids.index_select(1, nearest) + (slots - nearest)


class LatentAttention(nn.Module):
    """Attention of one layer over a cached latent and, in the layout latent+rope, cached rotary keys."""

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
        self.tile = TILE

        rope, nope = shape.qk_rope_head_dim, shape.qk_nope_head_dim
        cached = shape.kv_lora_rank + shape.cached_rope_numbers
        self.q_proj = nn.Linear(hidden_size, heads * (nope + rope), bias=shape.q_bias)
        self.kv_a_proj_with_mqa = nn.Linear(hidden_size, cached, bias=shape.kv_a_bias)
        with warnings.catch_warnings():
            # a layer that keeps all its rotary dims has no other key dims: its U_k is empty on purpose
            warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
            self.k_b_proj = nn.Linear(shape.k_rank, kv_heads * shape.rebuilt_key_dims, bias=shape.k_b_bias)
        self.v_b_proj = nn.Linear(shape.v_rank, kv_heads * shape.v_head_dim, bias=False)
        self.o_proj = nn.Linear(heads * shape.v_head_dim, hidden_size, bias=shape.o_bias)
        self.register_buffer("inv_freq", torch.ones(shape.rotations, rope // 2, dtype=torch.float32))

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
        tokens, past = hidden_states.shape[1], 0
        is_absorbed = tokens == 1 if self.absorbed is None else self.absorbed
        q_nope, q_rope, latent, k_rope = self._project(hidden_states, position_ids)
        if past_key_values is not None:
            latent, k_rope = past_key_values.update(latent, k_rope, self.layer_idx)
            past = past_key_values.get_seq_length(self.layer_idx) - tokens
        if attention_mask is None and tokens > 1:
            # cached beyond the new tokens is the empty end of a static cache: causality hides it anyway
            latent, k_rope = latent[:, :, :tokens], k_rope[:, :, :tokens]
            if is_absorbed:
                attention_mask = torch.ones(tokens, tokens, dtype=torch.bool, device=latent.device).tril()
        latent = latent.squeeze(1)
        if self.shape.layout == PRE_ROPE:
            positions = slot_positions(position_ids, past, latent.shape[1])
            if is_absorbed:
                output = self._attend_tiled(q_rope, latent, positions, attention_mask)
            else:
                key = self._rebuilt_keys(latent, positions)
                output = self._attend_expanded(q_rope, key, latent, attention_mask)
        elif is_absorbed:
            output = self._attend_absorbed(q_nope, q_rope, latent, k_rope, attention_mask)
        else:
            key = self._joined_keys(latent, k_rope)
            output = self._attend_expanded(torch.cat((q_nope, q_rope), dim=-1), key, latent, attention_mask)
        return self.o_proj(output.transpose(1, 2).flatten(2)), None

    def _project(self, hidden_states: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries, and what is cached of the new tokens: rotated wherever a rotation is due already.

        Returns q_nope (batch, heads, tokens, d_n), q_rope (batch, heads, tokens, d_r), latent (batch, 1,
        tokens, r), k_rope (batch, groups, tokens, d_r), or (batch, 1, tokens, 0) when pre-rope.
        """
        shape = self.shape
        query = self.q_proj(hidden_states).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        q_nope, q_rope = query.split((shape.qk_nope_head_dim, shape.qk_rope_head_dim), dim=-1)
        latent, k_rope = self.kv_a_proj_with_mqa(hidden_states).split(
            (shape.kv_lora_rank, shape.cached_rope_numbers), dim=-1
        )
        cos, sin = self._rotations(position_ids, hidden_states.dtype)
        # consecutive query heads share a group, so heads fold into (groups, heads of a group)
        by_group = q_rope.unflatten(1, (cos.shape[1], -1))
        q_rope = rotate(by_group, cos.unsqueeze(2), sin.unsqueeze(2)).flatten(1, 2)
        if shape.layout == PRE_ROPE:
            return q_nope, q_rope, latent.unsqueeze(1), k_rope.unsqueeze(1)
        k_rope = k_rope.unflatten(-1, (shape.groups, shape.qk_rope_head_dim)).transpose(1, 2)
        return q_nope, q_rope, latent.unsqueeze(1), rotate(k_rope, cos, sin)

    def _rotations(self, position_ids: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """cos and sin, (batch or 1, groups, tokens, d_r/2); angles in float32, as in transformers."""
        positions = position_ids[:, None, :, None].to(self.inv_freq.device, torch.float32)
        angles = positions * self.inv_freq[None, :, None, :]
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def _joined_keys(self, latent: Tensor, k_rope: Tensor) -> Tensor:
        """Whole keys of latent+rope, (batch, kv_heads, cached, d_n + d_r).

        latent: (batch, cached, r), k_rope: (batch, groups, cached, d_r).
        """
        k_nope = self.k_b_proj(latent[..., : self.shape.k_rank])
        k_nope = k_nope.unflatten(-1, (self.kv_heads, self.shape.qk_nope_head_dim)).transpose(1, 2)
        return torch.cat((k_nope, k_rope.expand(-1, self.kv_heads, -1, -1)), dim=-1)

    def _rebuilt_keys(self, latent: Tensor, positions: Tensor) -> Tensor:
        """Keys of pre-rope latents, rotated to their positions: (batch, kv_heads, cached, d_r).

        latent: (batch, cached, r), positions: (batch or 1, cached).
        """
        key = self.k_b_proj(latent[..., : self.shape.k_rank])
        key = key.unflatten(-1, (self.kv_heads, self.shape.qk_rope_head_dim)).transpose(1, 2)
        return rotate(key, *self._rotations(positions, key.dtype))

    def _attend_expanded(self, query: Tensor, key: Tensor, latent: Tensor, mask: Tensor | None) -> Tensor:
        """SDPA over whole keys and values.

        query: (batch, heads, tokens, d_n + d_r), key: (batch, kv_heads, cached, d_n + d_r), latent: (batch,
        cached, r).  Returns (batch, heads, tokens, v_head_dim).
        """
        shape, is_causal = self.shape, mask is None and query.shape[2] > 1
        value = self.v_b_proj(latent[..., shape.kv_lora_rank - shape.v_rank :])
        value = value.unflatten(-1, (self.kv_heads, shape.v_head_dim)).transpose(1, 2)
        copies = self.heads // self.kv_heads
        # fused kernels share KV heads only without a mask and at equal widths
        is_shared = mask is None and key.shape[-1] == value.shape[-1]
        if not is_shared:
            key, value = (x.repeat_interleave(copies, dim=1) for x in (key, value))
        return F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=is_causal,
            scale=self.scaling,
            enable_gqa=is_shared and copies > 1,
        )

    def _attend_absorbed(
        self, q_nope: Tensor, q_rope: Tensor, latent: Tensor, k_rope: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Attention of latent+rope on the latent itself, shared by all heads and never copied.

        q_nope: (batch, heads, tokens, d_n), q_rope: (batch, heads, tokens, d_r), latent: (batch, cached, r),
        k_rope: (batch, groups, cached, d_r).  Returns (batch, heads, tokens, v_head_dim).
        """
        shape, tokens = self.shape, q_nope.shape[2]
        up_k = self.k_b_proj.weight.view(self.kv_heads, shape.qk_nope_head_dim, shape.k_rank)
        q_latent = torch.einsum("bghtd,gdk->bghtk", q_nope.unflatten(1, (self.kv_heads, -1)), up_k)
        scores = q_latent.flatten(1, 3) @ latent[..., : shape.k_rank].transpose(1, 2)
        rope_scores = q_rope.unflatten(1, (shape.groups, -1)).flatten(2, 3) @ k_rope.transpose(2, 3)
        # at least float32, and float64 for a float64 model
        exact = torch.promote_types(scores.dtype, torch.float32)
        scores = scores.view(-1, self.heads, tokens, latent.shape[1]).to(exact)
        scores = masked((scores + rope_scores.view_as(scores)) * self.scaling, mask)
        weights = F.dropout(scores.softmax(dim=-1).to(latent.dtype), self.dropout, self.training)
        mixed = weights.flatten(1, 2) @ latent[..., shape.kv_lora_rank - shape.v_rank :]
        return self._values_of(mixed.view(-1, self.heads, tokens, shape.v_rank))

    def _attend_tiled(self, query: Tensor, latent: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Attention of pre-rope, a tile of cached positions at a time under a running softmax.

        Keys of one tile exist at once; values never do, the weighted sum runs over latents.
        query: (batch, heads, tokens, d_r), latent: (batch, cached, r), positions: (batch or 1, cached).
        Returns (batch, heads, tokens, v_head_dim).
        """
        shape, tokens = self.shape, query.shape[2]
        # at least float32, and float64 for a float64 model
        exact = torch.promote_types(query.dtype, torch.float32)
        highest = torch.full((*query.shape[:3], 1), torch.finfo(exact).min, dtype=exact, device=query.device)
        total, mixed = torch.zeros_like(highest), torch.zeros_like(highest).expand(-1, -1, -1, shape.v_rank)
        # heads that read one KV head are rows of one matrix: (batch, kv_heads, heads of it * tokens, d_r)
        query = query.unflatten(1, (self.kv_heads, -1)).flatten(2, 3)
        width = max(1, self.tile // latent.shape[0])
        for start in range(0, latent.shape[1], width):
            tile = slice(start, start + width)
            part = latent[:, tile]
            key = self._rebuilt_keys(part, positions[:, tile])
            scores = (query @ key.transpose(2, 3)).view(-1, self.heads, tokens, part.shape[1])
            scores = masked(scores.to(exact) * self.scaling, None if mask is None else mask[..., tile])
            higher = torch.maximum(highest, scores.amax(dim=-1, keepdim=True))
            decay, weights = (highest - higher).exp(), (scores - higher).exp()
            total = total * decay + weights.sum(dim=-1, keepdim=True)
            weights = F.dropout(weights, self.dropout, self.training).to(part.dtype)
            sums = weights.flatten(1, 2) @ part[..., shape.kv_lora_rank - shape.v_rank :]
            mixed = mixed * decay + sums.view_as(mixed)
            highest = higher
        return self._values_of((mixed / total).to(latent.dtype))

    def _values_of(self, mixed: Tensor) -> Tensor:
        """U_v behind the sum: (batch, heads, tokens, v_rank) -> (batch, heads, tokens, v_head_dim)."""
        up_v = self.v_b_proj.weight.view(self.kv_heads, self.shape.v_head_dim, self.shape.v_rank)
        mixed = mixed.unflatten(1, (self.kv_heads, -1))
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
