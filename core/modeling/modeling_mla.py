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

A model that norms every head's query and key (qk_norm: Qwen3, Gemma 3) keeps the projections and norms it
has. A normed key is not linear in x, so the latent is a linear map of u = [normed keys; values] instead, and
each head's query a linear map of its normed query; what is cached, and everything behind it, is the same.

A layer with `latent_bits` below 16 has its cache hold integers (LatentCache): the scale of a channel belongs
to the model, a token has one of its own. New tokens are read exactly where they are made, later as stored.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

LATENT_ROPE, PRE_ROPE = "latent+rope", "pre-rope"
COMMON_NAMES = ("hidden_size", "num_attention_heads", "num_hidden_layers", "max_position_embeddings")
# cached tokens, over all sequences of a batch, whose keys are rebuilt at once when a pre-rope layer decodes;
# on one CPU core, 8 x 2048 cached tokens take 18 ms at 1024 and 43 ms at 8192, where keys leave its caches
TILE = 1024
# tokens by which the memory of a cache grows: it is copied once in so many steps, and so many may be unused
ROOM = 256
# tokens whose latents a quantised cache keeps exact: the first ones, which all others look at, and the newest
EXACT_FIRST, EXACT_NEWEST = 4, 32
# between two levels of the best uniform quantiser of a normal variable (Max 1960), by bits
STEPS = {8: 0.0308, 4: 0.3352, 2: 0.9957}
# at least so many bits store a rotary key: it keeps its basis, and few numbers carry all positions
ROPE_BITS = 8


@dataclass(frozen=True)
class LatentShape:
    """Widths of one converted layer; the fields are the keys of an entry of `MLAConfig.mla_layers`.

    U_k reads the first `k_rank` channels of the latent, U_v the last `v_rank`: both are the whole latent when
    keys and values share it, and they add up to it when each has its own part. A pre-rope layer caches no
    rotated key, so its `groups` is 0, and all of a rebuilt key rotates, so its `qk_nope_head_dim` is 0.
    With `qk_norm`, heads of the projections before the norms are v_head_dim wide, and `q_bias` says that all
    three have biases. `softcap` c bounds the scores s: c tanh(s / c), before the mask (Gemma 2).
    kv_identity: the first kv_lora_rank inputs of a permutation are the latent but for a correction by the
    others (see BlockIdentity), which takes kv_lora_rank^2 numbers less.
    latent_bits: of a cached number; 16 stands for the dtype of the model.
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
    qk_norm: bool = False
    softcap: float | None = None
    kv_identity: bool = False
    latent_bits: int = 16

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
        if self.latent_bits != 16 and self.latent_bits not in STEPS:
            raise ValueError(f"latent_bits is {self.latent_bits}, expected 16, 8, 4 or 2")
        if self.softcap is not None and self.softcap <= 0:
            raise ValueError(f"softcap is {self.softcap}, expected a positive number or none")
        if self.layout == PRE_ROPE:
            if self.groups or self.qk_nope_head_dim:
                raise ValueError("a pre-rope layer has no cached rope key (groups 0) and only rotary dims")
        elif self.layout != LATENT_ROPE:
            raise ValueError(f"layout '{self.layout}' is unknown, not '{LATENT_ROPE}' or '{PRE_ROPE}'")
        elif self.groups not in (1, kv_heads):
            raise ValueError(f"groups is {self.groups}, expected 1 or the number of KV heads, {kv_heads}")
        elif self.k_b_bias:
            raise ValueError("a bias of keys that do not rotate cancels in the softmax: k_b_bias is pre-rope")


@dataclass(frozen=True)
class FactorShape:
    """How one linear layer is factored; the fields are the keys of an entry of `MLAConfig.mla_linears`.

    identity: the down factor is [I, B] after a permutation of its inputs, and only B is stored.
    sparse: numbers of the sparse residual that is added, 0 for none. bits: of a number of the factors.
    bias: there is one, though the whole layer may have none.
    """

    rank: int
    identity: bool = False
    sparse: int = 0
    bits: int = 16
    bias: bool = False


class MLAConfig(PreTrainedConfig):
    """Config of a converted model.

    base_config: config.json of the original model, model_type included; the source of truth for everything
    outside attention. Its attributes are also attributes of this config, as generation and tools expect.
    mla_layers: one LatentShape per layer, as dicts; what a layer's cache holds is its `layout`.
    mla_attention, mla_rotary: where the original has its attention modules ({i} is the layer) and its rotary
    embedding ("" for none). mla_dropout: what its config calls the dropout of attention weights.
    mla_linears: for each layer the linear layers that are factored, by their path in it, each a FactorShape
    as a dict; None when none is.
    """

    model_type = "mla_workbench"
    keys_to_ignore_at_inference = ("past_key_values",)

    # transformers builds configs without arguments, so every field has a default
    base_config: dict[str, Any] | None = None
    mla_layers: list[dict[str, Any]] | None = None
    mla_attention: str = "model.layers.{i}.self_attn"
    mla_rotary: str = "model.rotary_emb"
    mla_dropout: str = "attention_dropout"
    mla_linears: list[dict[str, dict[str, Any]]] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.base_config is not None:
            # what every config has (dtype, architectures, ...) describes this model and not the original
            own = {field.name for field in fields(PreTrainedConfig)} | {"model_type", "auto_map"}
            base = self.base()
            text = base.get_text_config(decoder=True)
            inherited = text.to_dict() | base.to_dict()
            # under the names that most families have, whatever this one calls them
            inherited |= {name: getattr(text, name) for name in COMMON_NAMES}
            inherited.setdefault("num_key_value_heads", text.num_attention_heads)
            kwargs = {key: value for key, value in inherited.items() if key not in own} | kwargs
            # of a model that sees images, the configs of its towers
            kwargs |= {name: getattr(base, name) for name in base.sub_configs}
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

    def factored(self, index: int) -> dict[str, FactorShape]:
        """The factored linear layers of layer `index`, by their path in it."""
        layers = self.mla_linears
        return {path: FactorShape(**shape) for path, shape in layers[index].items()} if layers else {}


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs (i, i + d_r/2) of the last dim; x: (..., d_r), cos and sin: (..., d_r/2)."""
    real, imaginary = x.chunk(2, dim=-1)
    if x.requires_grad and torch.is_grad_enabled():
        return torch.cat((real * cos - imaginary * sin, imaginary * cos + real * sin), dim=-1)
    # keys of a whole cache come by here at every step: a third of the time where nothing is made in between
    turned = torch.empty_like(x, memory_format=torch.contiguous_format)
    first, second = turned.chunk(2, dim=-1)
    torch.mul(real, cos, out=first).addcmul_(imaginary, sin, value=-1)
    torch.mul(imaginary, cos, out=second).addcmul_(real, sin)
    return turned


def exact_dtype(states: Tensor) -> torch.dtype:
    """What a softmax is computed in: at least float32, and float64 for a float64 model."""
    return torch.promote_types(states.dtype, torch.float32)


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
    end of a static cache, which no one attends to. A sliding cache has given up the oldest slots.
    """
    slots = torch.arange(cached, device=position_ids.device) - past
    nearest = slots.clamp(0, position_ids.shape[1] - 1)
    return position_ids.index_select(1, nearest) + (slots - nearest)


@dataclass(frozen=True)
class Grid:
    """What `bits` bits can say of n numbers of a token; scale and zero, (n,), make channels alike.

    A token is stored as its own size in one byte, in steps of an eighth of an octave, then its levels, the
    first of a byte in its lowest bits. No numbers take no byte.
    """

    bits: int
    scale: Tensor
    zero: Tensor

    @property
    def width(self) -> int:
        """Bytes of a token."""
        return 1 + -(-len(self.scale) * self.bits // 8) if len(self.scale) else 0

    def encode(self, rows: Tensor) -> Tensor:
        """(batch, tokens, n) -> uint8 (batch, tokens, width)."""
        if not self.width:
            return rows.to(torch.uint8)
        half, share = 2 ** (self.bits - 1), 8 // self.bits
        exact = (rows.float() - self.zero.float()) / self.scale.float()
        if self.bits == 8:
            # levels are many enough to clip nothing
            largest = exact.abs().amax(dim=-1, keepdim=True) / (half * STEPS[8])
            size = (8 * largest.log2()).ceil()
        else:
            size = (8 * exact.square().mean(dim=-1, keepdim=True).sqrt().log2()).round()
        size = size.clamp(-128, 127)
        levels = (exact / self._unit(size)).floor().clamp(-half, half - 1) + half
        levels = F.pad(levels, (0, -levels.shape[-1] % share)).unflatten(-1, (-1, share))
        packed = (levels.to(torch.uint8) << self._shifts(levels.device)).sum(dim=-1, dtype=torch.uint8)
        return torch.cat(((size + 128).to(torch.uint8), packed), dim=-1)

    def decode(self, packed: Tensor, dtype: torch.dtype) -> Tensor:
        """Back to (batch, tokens, n), each number in the middle of its level."""
        if not self.width:
            return packed.to(dtype)
        size = packed[..., :1].float() - 128
        levels = packed[..., 1:, None] >> self._shifts(packed.device) & 2**self.bits - 1
        exact = levels.flatten(-2)[..., : len(self.scale)].float() - (2 ** (self.bits - 1) - 0.5)
        rows: Tensor = exact * self._unit(size) * self.scale.float() + self.zero.float()
        return rows.to(dtype)

    def _unit(self, size: Tensor) -> Tensor:
        """Between two levels of a row that is 2^(size / 8) large."""
        unit: Tensor = STEPS[self.bits] * (size / 8).exp2()
        return unit

    def _shifts(self, device: torch.device) -> Tensor:
        """Where in a byte its levels begin."""
        return torch.arange(0, 8, self.bits, dtype=torch.uint8, device=device)


class GrowingLayer(DynamicLayer):
    """A cache layer with room for the next tokens; a DynamicLayer copies all it holds for each of them.

    keys and values (batch, heads, tokens, n) are the beginnings of key_room and value_room, which end after
    a multiple of ROOM tokens. A token that is to pass gradients on is never written there.
    """

    key_room: Tensor | None = None
    value_room: Tensor | None = None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Start empty, in the dtype and on the device of the first keys."""
        super().lazy_initialization(key_states, value_states)
        self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        self.key_room = self.value_room = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add keys and values (batch, heads, tokens, n), and return all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys, self.key_room = appended(self.keys, self.key_room, key_states)
        self.values, self.value_room = appended(self.values, self.value_room, value_states)
        return self.keys, self.values

    @property
    def spare_bytes(self) -> int:
        """Bytes of memory that wait for tokens."""
        if not self.is_initialized:
            return 0
        pairs: Any = ((self.keys, self.key_room), (self.values, self.value_room))
        return sum(room.nbytes - part.nbytes for part, room in pairs if room is not None)

    def reset(self) -> None:
        """Forget everything."""
        self.key_room = self.value_room = None
        super().reset()

    def offload(self) -> None:
        """Move to the CPU."""
        self.key_room = self.value_room = None
        super().offload()


def appended(cached: Any, room: Tensor | None, new: Tensor) -> tuple[Tensor, Tensor | None]:
    """What is cached with `new` behind it, all (batch, heads, tokens, n), and the room that it begins.

    `room` is that of `cached`; there is a new one when it is full, or the cache was changed by other means.
    """
    if torch.is_grad_enabled() and (cached.requires_grad or new.requires_grad):
        return torch.cat((cached, new), dim=2), None
    old, tokens = cached.shape[2], new.shape[2]
    if room is None or room.shape[2] < old + tokens or not begins(cached, room):
        room = new.new_empty(*new.shape[:2], -(-(old + tokens) // ROOM) * ROOM, new.shape[3])
        room.narrow(2, 0, old).copy_(cached)
    room.narrow(2, old, tokens).copy_(new)
    return room.narrow(2, 0, old + tokens), room


def begins(cached: Tensor, room: Tensor) -> bool:
    """Whether `cached` is the beginning of `room`, and the room may be written to."""
    is_own = room.data_ptr() == cached.data_ptr() and room.stride() == cached.stride()
    # outside of inference mode nothing that it has made may be
    return is_own and len(room) == len(cached) and room.is_inference() <= torch.is_inference_mode_enabled()


class GrowingCache(DynamicCache):
    """A DynamicCache, of any model, that is not copied at every step.

    With a config the layers that it calls sliding keep their window only, as in DynamicCache. A shallow copy
    shares its memory, so that two of them must not both go on: `copy.deepcopy` parts them.
    """

    def __init__(self, config: PreTrainedConfig | None = None) -> None:
        super().__init__(config=config)
        self.layers = [GrowingLayer() if type(one) is DynamicLayer else one for one in self.layers]
        if config is None:
            self.layer_class_to_replicate = GrowingLayer


class LatentLayer(DynamicLayer):
    """The cache of one layer: latents and rotary keys, each on a Grid, but for the exact tokens.

    In the order of the tokens: first (batch, <= EXACT_FIRST, n), packed (batch, tokens, bytes) and newest
    (batch, <= EXACT_NEWEST, n). What attention reads is made anew at every step, in the dtype of the model.
    """

    parts = ("first", "packed", "newest")

    def __init__(self, latent: Grid, rope: Grid) -> None:
        super().__init__()
        self.latent, self.rope = latent, rope

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Start empty, in the dtype and on the device of the first latents."""
        self.dtype, self.device = key_states.dtype, key_states.device
        numbers = len(self.latent.scale) + len(self.rope.scale)
        self.first = self.newest = key_states.new_zeros(len(key_states), 0, numbers)
        self.packed = self._encode(self.first)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add latents (batch, 1, tokens, r) and rotary keys (batch, groups, tokens, d_r), and return all.

        The new ones come back as they are, those before as they are stored.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        groups, _, dims = value_states.shape[1:]
        rows = torch.cat((key_states.squeeze(1), value_states.transpose(1, 2).flatten(2)), dim=-1)
        whole = torch.cat((self.first, self._decode(self.packed), self.newest, rows), dim=1)
        self._store(torch.cat((self.newest, rows), dim=1))
        latent, rope = whole.tensor_split([len(self.latent.scale)], dim=-1)
        return latent.unsqueeze(1), rope.unflatten(-1, (groups, dims)).transpose(1, 2)

    def _encode(self, rows: Tensor) -> Tensor:
        latent, rope = rows.tensor_split([len(self.latent.scale)], dim=-1)
        return torch.cat((self.latent.encode(latent), self.rope.encode(rope)), dim=-1)

    def _decode(self, packed: Tensor) -> Tensor:
        latent, rope = packed.tensor_split([self.latent.width], dim=-1)
        return torch.cat((self.latent.decode(latent, self.dtype), self.rope.decode(rope, self.dtype)), dim=-1)

    def _store(self, rows: Tensor) -> None:
        """Part what is exact so far; copies, since a slice would keep all of it alive."""
        missing = EXACT_FIRST - self.first.shape[1]
        first, rows = rows.tensor_split([missing], dim=1)
        leaving = max(0, rows.shape[1] - EXACT_NEWEST)
        packed, newest = rows.tensor_split([leaving], dim=1)
        self.first = torch.cat((self.first, first), dim=1)
        self.packed = torch.cat((self.packed, self._encode(packed)), dim=1)
        self.newest = newest.clone()

    def get_seq_length(self) -> int:
        """Tokens cached."""
        return sum(getattr(self, part).shape[1] for part in self.parts) if self.is_initialized else 0

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the newest `-tokens_to_remove` tokens."""
        left = self.get_seq_length() - abs(tokens_to_remove)
        if self.is_initialized:
            for part in self.parts:
                kept: Tensor = getattr(self, part)[:, : max(0, left)]
                left -= kept.shape[1]
                setattr(self, part, kept.clone())

    def reset(self) -> None:
        """Forget everything."""
        self.is_initialized = False

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take the sequences `beam_idx`, as a beam search does."""
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the sequences `indices`."""
        self._map(lambda kept: kept[indices.to(kept.device)])

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Have every sequence `repeats` times."""
        self._map(lambda kept: kept.repeat_interleave(repeats, dim=0))

    def offload(self) -> None:
        """Move to the CPU."""
        self._map(lambda kept: kept.to("cpu", non_blocking=True))

    def prefetch(self) -> None:
        """Move back."""
        self._map(lambda kept: kept.to(self.device, non_blocking=True))

    def _map(self, change: Callable[[Tensor], Tensor]) -> None:
        for part in self.parts if self.is_initialized else ():
            setattr(self, part, change(getattr(self, part)))


class LatentCache(Cache):
    """A cache of integers for the layers that have latent_bits, of plain numbers for others."""

    def __init__(self, attentions: "list[LatentAttention]") -> None:
        super().__init__(
            layers=[LatentLayer(*one.grids) if one.is_quantised else DynamicLayer() for one in attentions]
        )


class BlockIdentity(nn.Module):
    """x -> x[pivots] + B x[others]: [I, B] on permuted inputs, a gather and a smaller product.

    order: (in_features,) the `rank` pivots, then the others.
    """

    order: Tensor

    def __init__(self, in_features: int, rank: int, bits: int = 16) -> None:
        super().__init__()
        self.rank = rank
        self.register_buffer("order", torch.arange(in_features, dtype=torch.int32))
        self.rest = linear(in_features - rank, rank, bias=False, bits=bits)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., rank)."""
        pivots, others = x.index_select(-1, self.order).tensor_split([self.rank], dim=-1)
        output: Tensor = pivots + self.rest(others)
        return output


class Int8Linear(nn.Module):
    """A linear layer whose weight is int8 with one scale per output."""

    weight: Tensor
    scale: Tensor
    bias: nn.Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(out_features))
        self.register_parameter("bias", nn.Parameter(torch.zeros(out_features)) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features); the scale meets the outputs, not the weights."""
        output = F.linear(x, self.weight.to(x.dtype)) * self.scale
        return output if self.bias is None else output + self.bias


class SparseResidual(nn.Module):
    """The few numbers of a matrix that a product of small rank misses most, by rows (CSR).

    values: (count,), columns: (count,), starts: (out_features + 1,) where the numbers of each row begin.
    """

    columns: Tensor
    starts: Tensor

    def __init__(self, in_features: int, out_features: int, count: int) -> None:
        super().__init__()
        self.size = (out_features, in_features)
        self.values = nn.Parameter(torch.zeros(count))
        self.register_buffer("columns", torch.zeros(count, dtype=torch.int32))
        self.register_buffer("starts", torch.zeros(out_features + 1, dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        # sparse kernels know float32 and float64 only
        exact = torch.promote_types(x.dtype, torch.float32)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            matrix = torch.sparse_csr_tensor(self.starts, self.columns, self.values.to(exact), self.size)
        output: Tensor = matrix @ x.flatten(0, -2).to(exact).T
        by_token = output.T.to(x.dtype)
        return by_token.view(*x.shape[:-1], by_token.shape[-1])


class LatentLinear(nn.Module):
    """A linear layer as two smaller ones: up(down(x)), and a sparse residual where it has one."""

    def __init__(self, in_features: int, out_features: int, shape: FactorShape, bias: bool) -> None:
        super().__init__()
        rank, bits = shape.rank, shape.bits
        if shape.identity:
            self.down: nn.Module = BlockIdentity(in_features, rank, bits)
        else:
            self.down = linear(in_features, rank, bias=False, bits=bits)
        self.up = linear(rank, out_features, bias=bias, bits=bits)
        self.residual = SparseResidual(in_features, out_features, shape.sparse) if shape.sparse else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        output: Tensor = self.up(self.down(x))
        return output if self.residual is None else output + self.residual(x)


class IdentityDown(nn.Module):
    """kv_a_proj_with_mqa with a block-identity latent: [latent; rotary keys], and their bias."""

    bias: nn.Parameter | None

    def __init__(self, in_features: int, rank: int, rotary: int, bias: bool) -> None:
        super().__init__()
        self.latent = BlockIdentity(in_features, rank)
        self.rotary = nn.Linear(in_features, rotary, bias=False) if rotary else None
        self.register_parameter("bias", nn.Parameter(torch.zeros(rank + rotary)) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., rank + rotary)."""
        output: Tensor = self.latent(x)
        if self.rotary is not None:
            output = torch.cat((output, self.rotary(x)), dim=-1)
        return output if self.bias is None else output + self.bias


def linear(in_features: int, out_features: int, *, bias: bool, bits: int) -> nn.Module:
    """A linear layer that stores its weight in `bits` bits; 16 stands for the dtype of the model."""
    if bits == 8:
        return Int8Linear(in_features, out_features, bias)
    with warnings.catch_warnings():
        # where every input is a pivot nothing is left to correct by
        warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
        return nn.Linear(in_features, out_features, bias=bias)


class LatentAttention(nn.Module):
    """Attention of one layer over a cached latent and, in the layout latent+rope, cached rotary keys."""

    inv_freq: Tensor
    kv_scale: Tensor
    kv_zero: Tensor

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
        norms: tuple[nn.Module, nn.Module] | None = None,
    ) -> None:
        """`scaling` multiplies the scores: the original layer's, whatever the widths became.

        norms: the original's, of a head's query and key, where the shape has qk_norm.
        """
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
        cached, width = shape.kv_lora_rank + shape.cached_rope_numbers, hidden_size
        if norms is None:
            self.q_proj = nn.Linear(hidden_size, heads * (nope + rope), bias=shape.q_bias)
        else:
            head = shape.v_head_dim
            self.q_norm, self.k_norm = norms
            self.q_proj = nn.Linear(hidden_size, heads * head, bias=shape.q_bias)
            self.k_proj = nn.Linear(hidden_size, kv_heads * head, bias=shape.q_bias)
            self.v_proj = nn.Linear(hidden_size, kv_heads * head, bias=shape.q_bias)
            # one map per head, below each other: (heads, d_n + d_r, head)
            self.q_b_proj = nn.Linear(head, heads * (nope + rope), bias=False)
            width = 2 * kv_heads * head
        if shape.kv_identity:
            rotary = shape.cached_rope_numbers
            down: nn.Module = IdentityDown(width, shape.kv_lora_rank, rotary, shape.kv_a_bias)
        else:
            down = nn.Linear(width, cached, bias=shape.kv_a_bias)
        self.kv_a_proj_with_mqa = down
        with warnings.catch_warnings():
            # a layer that keeps all its rotary dims has no other key dims: its U_k is empty on purpose
            warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
            self.k_b_proj = nn.Linear(shape.k_rank, kv_heads * shape.rebuilt_key_dims, bias=shape.k_b_bias)
        self.v_b_proj = nn.Linear(shape.v_rank, kv_heads * shape.v_head_dim, bias=False)
        self.o_proj = nn.Linear(heads * shape.v_head_dim, hidden_size, bias=shape.o_bias)
        self.register_buffer("inv_freq", torch.ones(shape.rotations, rope // 2, dtype=torch.float32))
        if self.is_quantised:
            self.register_buffer("kv_scale", torch.ones(cached))
            self.register_buffer("kv_zero", torch.zeros(cached))

    @property
    def is_quantised(self) -> bool:
        """Whether the layer's cache is to hold integers."""
        return self.shape.latent_bits < 16

    @property
    def grids(self) -> tuple[Grid, Grid]:
        """Of the latent and of rotary keys, where they are quantised."""
        bits, rank = self.shape.latent_bits, self.shape.kv_lora_rank
        scales, zeros = self.kv_scale.tensor_split([rank]), self.kv_zero.tensor_split([rank])
        return Grid(bits, scales[0], zeros[0]), Grid(max(bits, ROPE_BITS), scales[1], zeros[1])

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
        layer_past: Cache | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """hidden_states: (batch, tokens, hidden_size), position_ids: (batch or 1, tokens).

        attention_mask: (batch or 1, 1, tokens, cached tokens), bool or added to the scores; None is causal.
        `layer_past` is what GPT-NeoX calls its past_key_values. The rotary table the original model passes in
        `kwargs` is not used: a layer has its own frequencies.
        """
        tokens, past = hidden_states.shape[1], 0
        past_key_values = layer_past if past_key_values is None else past_key_values
        is_absorbed = tokens == 1 if self.absorbed is None else self.absorbed
        q_nope, q_rope, latent, k_rope = self._project(hidden_states, position_ids)
        if past_key_values is not None:
            latent, k_rope = past_key_values.update(latent, k_rope, self.layer_idx)
            # a sliding cache has seen more tokens than it has slots
            seen, slots = past_key_values.get_seq_length(self.layer_idx), latent.shape[2]
            past = (seen.clamp_max(slots) if isinstance(seen, Tensor) else min(seen, slots)) - tokens
        if attention_mask is None and tokens > 1:
            # cached beyond the new tokens is the empty end of a static cache: causality hides it anyway
            latent, k_rope = latent[:, :, :tokens], k_rope[:, :, :tokens]
            if is_absorbed or self.shape.softcap is not None:
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
        if shape.qk_norm:
            query = torch.einsum("bhtd,hed->bhte", self.q_norm(query), self._query_maps())
        q_nope, q_rope = query.split((shape.qk_nope_head_dim, shape.qk_rope_head_dim), dim=-1)
        latent, k_rope = self.kv_a_proj_with_mqa(self._read_by_latent(hidden_states)).split(
            (shape.kv_lora_rank, shape.cached_rope_numbers), dim=-1
        )
        cos, sin = self._rotations(position_ids, hidden_states.dtype)
        if shape.layout == PRE_ROPE:
            return q_nope, rotate(q_rope, cos, sin), latent.unsqueeze(1), k_rope.unsqueeze(1)
        # consecutive query heads share a group, so heads fold into (groups, heads of a group), their key last
        k_rope = k_rope.unflatten(-1, (shape.groups, 1, shape.qk_rope_head_dim)).permute(0, 2, 3, 1, 4)
        by_group = torch.cat((q_rope.unflatten(1, (shape.groups, -1)), k_rope), dim=2)
        by_group = rotate(by_group, cos.unsqueeze(2), sin.unsqueeze(2))
        return q_nope, by_group[:, :, :-1].flatten(1, 2), latent.unsqueeze(1), by_group[:, :, -1]

    def _query_maps(self) -> Tensor:
        """What each head makes of its normed query: (heads, d_n + d_r, v_head_dim)."""
        return self.q_b_proj.weight.view(self.heads, -1, self.shape.v_head_dim)

    def _read_by_latent(self, hidden_states: Tensor) -> Tensor:
        """What the latent is a linear map of: x itself, or [normed keys; values], (batch, tokens, width)."""
        if not self.shape.qk_norm:
            return hidden_states
        key = self.k_norm(self.k_proj(hidden_states).unflatten(-1, (self.kv_heads, -1))).flatten(2)
        return torch.cat((key, self.v_proj(hidden_states)), dim=-1)

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
        """SDPA over whole keys and values; it knows no soft-cap, so it does not run for a layer that has one.

        query: (batch, heads, tokens, d_n + d_r), key: (batch, kv_heads, cached, d_n + d_r), latent: (batch,
        cached, r).  Returns (batch, heads, tokens, v_head_dim).
        """
        shape, is_causal = self.shape, mask is None and query.shape[2] > 1
        value = self.v_b_proj(latent[..., shape.kv_lora_rank - shape.v_rank :])
        value = value.unflatten(-1, (self.kv_heads, shape.v_head_dim)).transpose(1, 2)
        copies = self.heads // self.kv_heads
        if shape.softcap is not None:
            return self._attend_openly(query, key, value, mask)
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

    def _attend_openly(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """What SDPA would do, with the scores in the open; shapes as in `_attend_expanded`."""
        by_kv_head = query.unflatten(1, (self.kv_heads, -1)).flatten(2, 3)
        scores = (by_kv_head @ key.transpose(2, 3)).view(*query.shape[:3], key.shape[2])
        weights = self._weights_of(scores.to(exact_dtype(scores)) * self.scaling, mask).to(value.dtype)
        mixed: Tensor = weights.unflatten(1, (self.kv_heads, -1)).flatten(2, 3) @ value
        return mixed.view(*query.shape[:3], value.shape[-1])

    def _attend_absorbed(
        self, q_nope: Tensor, q_rope: Tensor, latent: Tensor, k_rope: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Attention of latent+rope on the latent itself, shared by all heads and never copied.

        q_nope: (batch, heads, tokens, d_n), q_rope: (batch, heads, tokens, d_r), latent: (batch, cached, r),
        k_rope: (batch, groups, cached, d_r).  Returns (batch, heads, tokens, v_head_dim).
        """
        shape, tokens = self.shape, q_nope.shape[2]
        up_k = self.k_b_proj.weight.view(self.kv_heads, shape.qk_nope_head_dim, shape.k_rank)
        q_latent = self._by_kv_head(q_nope, up_k)
        rope_scores = q_rope.unflatten(1, (shape.groups, -1)).flatten(2, 3) @ k_rope.transpose(2, 3)
        # added and scaled as they are made: at long contexts every pass over the scores costs
        scores = torch.baddbmm(
            rope_scores.view(len(latent), self.heads * tokens, -1),
            q_latent.flatten(1, 2),
            latent[..., : shape.k_rank].transpose(1, 2),
            beta=self.scaling,
            alpha=self.scaling,
        )
        scores = scores.view(-1, self.heads, tokens, latent.shape[1])
        weights = self._weights_of(scores, mask).to(latent.dtype)
        mixed = weights.flatten(1, 2) @ latent[..., shape.kv_lora_rank - shape.v_rank :]
        return self._values_of(mixed.view(-1, self.heads, tokens, shape.v_rank))

    def _attend_tiled(self, query: Tensor, latent: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Attention of pre-rope, a tile of cached positions at a time under a running softmax.

        Keys of one tile exist at once; values never do, the weighted sum runs over latents.
        query: (batch, heads, tokens, d_r), latent: (batch, cached, r), positions: (batch or 1, cached).
        Returns (batch, heads, tokens, v_head_dim).
        """
        shape, tokens = self.shape, query.shape[2]
        exact = exact_dtype(query)
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
            scores = self._finished(
                scores.to(exact) * self.scaling, None if mask is None else mask[..., tile]
            )
            higher = torch.maximum(highest, scores.amax(dim=-1, keepdim=True))
            decay, weights = (highest - higher).exp(), (scores - higher).exp()
            total = total * decay + weights.sum(dim=-1, keepdim=True)
            weights = F.dropout(weights, self.dropout, self.training).to(part.dtype)
            sums = weights.flatten(1, 2) @ part[..., shape.kv_lora_rank - shape.v_rank :]
            mixed = mixed * decay + sums.view_as(mixed)
            highest = higher
        return self._values_of((mixed / total).to(latent.dtype))

    def _finished(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Scaled products of queries and keys as they enter the softmax: capped and masked."""
        cap = self.shape.softcap
        return masked(scores if cap is None else cap * torch.tanh(scores / cap), mask)

    def _weights_of(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Attention weights (batch, heads, tokens, cached) of scaled products of queries and keys."""
        scores = self._finished(scores.to(exact_dtype(scores)), mask)
        return F.dropout(scores.softmax(dim=-1), self.dropout, self.training)

    def _values_of(self, mixed: Tensor) -> Tensor:
        """U_v behind the sum: (batch, heads, tokens, v_rank) -> (batch, heads, tokens, v_head_dim)."""
        up_v = self.v_b_proj.weight.view(self.kv_heads, self.shape.v_head_dim, self.shape.v_rank)
        return self._by_kv_head(mixed, up_v.transpose(1, 2))

    def _by_kv_head(self, x: Tensor, maps: Tensor) -> Tensor:
        """Every head times the matrix of its KV head: (batch, heads, tokens, n) x (kv_heads, n, m)."""
        batch, heads, tokens, width = x.shape
        copies = heads // self.kv_heads * tokens
        rows = x.reshape(batch, self.kv_heads, copies, width).transpose(0, 1)
        product = torch.bmm(rows.reshape(self.kv_heads, batch * copies, width), maps)
        by_sequence = product.view(self.kv_heads, batch, copies, maps.shape[2]).transpose(0, 1)
        return by_sequence.reshape(batch, heads, tokens, maps.shape[2])


def rope_scaling(rotary: Any, attention: Any) -> float:
    """What the original multiplies cos and sin by; Gemma 3 has a rotary table for each type of layer."""
    if rotary is None:
        return 1.0
    own = getattr(rotary, f"{getattr(attention, 'layer_type', None)}_attention_scaling", None)
    return float(rotary.attention_scaling if own is None else own)


class MLAForCausalLM(PreTrainedModel, GenerationMixin):
    """The original language model with latent attention; all other tensors keep their names."""

    config_class = MLAConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    # what builds the original
    _original_class: Any = AutoModelForCausalLM
    # says so to quantisers; the loader also goes by the dtype of the buffer itself (`strict` is for bfloat16)
    _keep_in_fp32_modules_strict = ["inv_freq"]  # noqa: RUF012 - read by transformers

    def __init__(self, config: MLAConfig) -> None:
        super().__init__(config)
        base = self._original(config)
        rotary = base.get_submodule(config.mla_rotary) if config.mla_rotary else None
        for index, shape in enumerate(config.shapes()):
            path, _, name = config.mla_attention.format(i=index).rpartition(".")
            layer = base.get_submodule(path)
            old: Any = layer.get_submodule(name)
            attention = LatentAttention(
                shape,
                hidden_size=config.hidden_size,
                heads=config.num_attention_heads,
                kv_heads=config.num_key_value_heads,
                # yarn multiplies cos and sin, so every original score, by a constant squared
                scaling=old.scaling * rope_scaling(rotary, old) ** 2,
                dropout=getattr(config, config.mla_dropout),
                layer_idx=index,
                norms=(old.q_norm, old.k_norm) if shape.qk_norm else None,
            )
            layer.add_module(name, attention)
            for path, factors in config.factored(index).items():
                whole = layer.get_submodule(path)
                has_bias = factors.bias or whole.bias is not None
                smaller = LatentLinear(whole.in_features, whole.out_features, factors, has_bias)
                layer.set_submodule(path, smaller)
        for name, child in base.named_children():
            self.add_module(name, child)
        self._base_class = type(base)
        self.base_model_prefix = base.base_model_prefix
        self._tied_weights_keys = base._tied_weights_keys
        self._is_quantised = any(shape.latent_bits < 16 for shape in config.shapes())
        self.post_init()

    @classmethod
    def _original(cls, config: MLAConfig) -> Any:
        """The original architecture, on whatever device and in whatever dtype is active."""
        # SDPA knows no soft-cap, so a model that has one refuses it; its eager masks are added to the scores
        is_capped = any(shape.softcap is not None for shape in config.shapes())
        return cls._original_class.from_config(
            config.base(),
            attn_implementation="eager" if is_capped else config._attn_implementation,
            dtype=torch.get_default_dtype(),
        )

    def new_cache(self) -> Cache:
        """An empty cache of the kind that the model is made for; sliding layers keep all tokens too."""
        attentions = [module for module in self.modules() if isinstance(module, LatentAttention)]
        return LatentCache(attentions) if self._is_quantised else GrowingCache()

    def generate(  # type: ignore[override]
        self, inputs: Tensor | None = None, generation_config: Any = None, **kwargs: Any
    ) -> Any:
        """As in transformers; where a call names no cache and no kind of one, this model's own is filled."""
        settings = generation_config or self.generation_config
        names = ("use_cache", "cache_implementation")
        is_cached, kind = (kwargs.get(name, getattr(settings, name)) for name in names)
        if is_cached is not False and kind is None and "past_key_values" not in kwargs:
            own = self.new_cache() if self._is_quantised else GrowingCache(self.config)
            kwargs["past_key_values"] = own
        usual: Any = super()
        return usual.generate(inputs, generation_config, **kwargs)

    def get_input_embeddings(self) -> nn.Module:
        """The original's, wherever it has them."""
        found: nn.Module = self._base_class.get_input_embeddings(self)
        return found

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the original's."""
        self._base_class.set_input_embeddings(self, value)

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
        is_open = past_key_values is None and use_cache is not False and not self.training
        if self._is_quantised and is_open:
            past_key_values = self.new_cache()
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


class MLAForImageTextToText(MLAForCausalLM):
    """The original model that sees images, with latent attention in its language tower."""

    _original_class: Any = AutoModelForImageTextToText

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
        pixel_values: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """See MLAForCausalLM.forward; pixel_values are what the processor makes of the images."""
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            labels=labels,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            pixel_values=pixel_values,
            **kwargs,
        )
