# SPDX-License-Identifier: Apache-2.0
"""The absorbed and the expanded path are the same function, for every shape a layer can have."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DynamicCache

from core.modeling import LatentAttention, LatentShape
from tests.modeling.exact_mla import distance

# float64 sums in another order; outputs are of size one
ROUNDING = 1e-12


@st.composite
def pre_rope_shapes(draw: st.DrawFn) -> tuple[LatentShape, int, int]:
    """(shape, heads, kv_heads) of the layout that rebuilds its keys."""
    kv_heads = draw(st.sampled_from([1, 2, 3]))
    rank = draw(st.integers(1, 20))
    shape = LatentShape(
        layout="pre-rope",
        kv_lora_rank=rank,
        k_rank=draw(st.integers(0, rank)),
        v_rank=draw(st.integers(1, rank)),
        groups=0,
        qk_rope_head_dim=2 * draw(st.integers(1, 5)),
        qk_nope_head_dim=0,
        v_head_dim=draw(st.integers(1, 8)),
        q_bias=draw(st.booleans()),
        kv_a_bias=draw(st.booleans()),
        k_b_bias=draw(st.booleans()),
        o_bias=draw(st.booleans()),
    )
    shape.check(kv_heads)
    return shape, kv_heads * draw(st.integers(1, 3)), kv_heads


@st.composite
def shapes(draw: st.DrawFn) -> tuple[LatentShape, int, int]:
    """(shape, heads, kv_heads) with every kind of extreme: no rope, only rope, split, one group."""
    kv_heads = draw(st.sampled_from([1, 2, 3]))
    rope = 2 * draw(st.integers(0, 4))
    nope = draw(st.integers(0 if rope else 1, 6))
    rank = draw(st.integers(2, 20))
    split = draw(st.booleans())
    k_rank = draw(st.integers(0, rank - 1)) if split else rank
    shape = LatentShape(
        kv_lora_rank=rank,
        k_rank=k_rank,
        v_rank=rank - k_rank if split else rank,
        groups=draw(st.sampled_from([1, kv_heads])),
        qk_rope_head_dim=rope,
        qk_nope_head_dim=nope,
        v_head_dim=draw(st.integers(1, 8)),
        q_bias=draw(st.booleans()),
        kv_a_bias=draw(st.booleans()),
        o_bias=draw(st.booleans()),
    )
    shape.check(kv_heads)
    return shape, kv_heads * draw(st.integers(1, 3)), kv_heads


def layer_of(shape: LatentShape, heads: int, kv_heads: int) -> LatentAttention:
    layer = LatentAttention(
        shape, hidden_size=24, heads=heads, kv_heads=kv_heads, scaling=0.4, dropout=0.0, layer_idx=0
    )
    layer = layer.double().eval()
    layer.inv_freq.uniform_(0, 2)
    return layer


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(shapes(), pre_rope_shapes()),
    st.integers(1, 3),
    st.integers(1, 7),
    st.integers(0, 5),
    st.integers(1, 14),
)
@torch.no_grad()
def test_absorbed_equals_expanded(
    drawn: tuple[LatentShape, int, int], batch: int, tokens: int, past: int, tile: int
) -> None:
    """At every number of new tokens, of tokens already cached, and of tokens in a tile."""
    torch.manual_seed(0)
    shape, heads, kv_heads = drawn
    layer = layer_of(shape, heads, kv_heads)
    layer.tile = tile
    hidden = torch.randn(batch, past + tokens, 24, dtype=torch.float64)
    positions = torch.arange(past + tokens)[None]
    mask = torch.ones(past + tokens, past + tokens, dtype=torch.bool).tril()[None, None, past:]
    # without cached tokens None means causal; one token attends to everything
    given_mask = mask if past and tokens > 1 else None
    outputs = []
    for absorbed in (False, True):
        layer.absorbed, cache = absorbed, DynamicCache()
        if past:
            layer(hidden[:, :past], positions[:, :past], past_key_values=cache)
        output, _ = layer(hidden[:, past:], positions[:, past:], given_mask, past_key_values=cache)
        outputs.append(output)
    assert distance(*outputs) < ROUNDING


def test_decode_is_absorbed_and_prefill_expanded_unless_told() -> None:
    """Whoever decodes never calls the up-projections: they are read as matrices, not applied to the cache."""
    shape = LatentShape(12, 12, 12, 2, 4, 6, 8, False, False, False)
    layer = layer_of(shape, 4, 2)
    expanded_over: list[int] = []
    layer.v_b_proj.register_forward_hook(lambda _m, inputs, _o: expanded_over.append(inputs[0].shape[1]))
    hidden, cache = torch.randn(1, 6, 24, dtype=torch.float64), DynamicCache()
    layer(hidden[:, :5], torch.arange(5)[None], past_key_values=cache)
    assert expanded_over == [5]
    layer(hidden[:, 5:], torch.tensor([[5]]), past_key_values=cache)
    assert expanded_over == [5]
    layer.absorbed = False
    layer(hidden[:, 5:], torch.tensor([[6]]), past_key_values=cache)
    assert expanded_over == [5, 7]


class Allocations(TorchDispatchMode):
    """Records (operation, numbers) of every tensor that owns new memory."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[str, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if isinstance(output, torch.Tensor) and not func.is_view and "view" not in str(func):
            self.made.append((str(func), output.numel()))
        return output


@torch.no_grad()
def test_a_decode_step_copies_no_latent_and_expands_nothing() -> None:
    """Besides the cache growing by concatenation, nothing as large as the cached latent is created."""
    shape = LatentShape(64, 64, 64, 2, 4, 12, 16, False, False, False)
    layer, cached = layer_of(shape, 4, 2), 300
    hidden, cache = torch.randn(2, cached, 24, dtype=torch.float64), DynamicCache()
    layer(hidden, torch.arange(cached)[None], past_key_values=cache)
    latent = 2 * (cached + 1) * 64
    sizes = {}
    for absorbed in (True, False):
        layer.absorbed = absorbed
        with Allocations() as seen:
            layer(hidden[:, :1], torch.tensor([[cached]]), past_key_values=cache)
        sizes[absorbed] = [op for op, numbers in seen.made if numbers >= latent // 4]
        cache.crop(-1)
    assert sizes[True] == ["aten.cat.default"], "only the cache itself may be this large"
    assert len(sizes[False]) > 1, "the expanded path rebuilds keys and values: the measure must see it"


@pytest.mark.parametrize("absorbed", [False, True])
@pytest.mark.parametrize("layout", ["latent+rope", "pre-rope"])
def test_attention_dropout_is_for_training(layout: str, absorbed: bool) -> None:
    """At dropout 1 no attention weight is left, on any path; in inference all of them are."""
    shape = LatentShape(12, 12, 12, 0, 4, 0, 8, False, False, False, layout="pre-rope")
    if layout == "latent+rope":
        shape = LatentShape(12, 12, 12, 2, 4, 6, 8, False, False, False)
    layer = layer_of(shape, 4, 2)
    layer.dropout, layer.absorbed = 1.0, absorbed
    hidden, positions = torch.randn(1, 5, 24, dtype=torch.float64), torch.arange(5)[None]
    assert layer(hidden, positions)[0].any()
    assert not layer.train()(hidden, positions)[0].any()
