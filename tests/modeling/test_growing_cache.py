# SPDX-License-Identifier: Apache-2.0
"""A cache with room says what a DynamicCache says, bit for bit, and is not copied for every token."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from transformers import DynamicCache, MistralConfig
from transformers.cache_utils import DynamicSlidingWindowLayer

from core.evaluate.kv_memory import filled_bytes, held_bytes
from core.modeling import GrowingCache
from core.modeling.modeling_mla import ROOM, GrowingLayer
from tests.modeling.exact_layouts import convert_layouts
from tests.modeling.exact_mla import some_ids

LAYOUTS = (("shared",), ("per-head", "pre-rope"))


@pytest.fixture(params=LAYOUTS, ids=str)
def model(request: pytest.FixtureRequest, gqa: Any) -> Any:
    return convert_layouts(gqa, request.param)


def parts(cache: Any) -> list[torch.Tensor]:
    return [part for layer in cache.layers for part in (layer.keys, layer.values)]


def test_it_holds_what_a_dynamic_cache_holds_at_every_step(model: Any, gqa: Any) -> None:
    """Over two ends of its room, in steps of one token and of many; of an original as well."""
    ids = some_ids(2, 2 * ROOM + 20)
    steps = (ROOM - 3, *[1] * 6, ROOM, *[1] * 17)
    for one in (model, gqa):
        usual, growing = DynamicCache(), GrowingCache()
        for piece in ids.split(steps, dim=1):
            expected = one(piece, past_key_values=usual).logits
            assert torch.equal(one(piece, past_key_values=growing).logits, expected)
        assert growing.get_seq_length() == usual.get_seq_length() == sum(steps)
        assert all(torch.equal(*both) for both in zip(parts(growing), parts(usual), strict=True))


def test_a_token_is_written_into_room_that_is_there(model: Any) -> None:
    """What a cache copied at every step would move stays where it is, until its room is used up."""
    cache, places = model.new_cache(), []
    for piece in some_ids(1, ROOM + 2).split((5, *[1] * (ROOM - 3)), dim=1):
        model(piece, past_key_values=cache)
        places.append([part.data_ptr() for part in parts(cache) if part.numel()])
    assert all(place == places[0] for place in places[: ROOM - 4])
    assert all(old != new for old, new in zip(places[0], places[-1], strict=True))


def test_room_is_held_and_said_but_is_no_token(model: Any) -> None:
    usual, growing = DynamicCache(), GrowingCache()
    for cache in (usual, growing):
        model(some_ids(2, 9), past_key_values=cache)
    assert filled_bytes(growing) == held_bytes(usual)
    assert held_bytes(growing) == held_bytes(usual) // 9 * ROOM


@pytest.mark.parametrize("change", ["crop", "select", "repeat", "deepcopy", "reset"])
def test_what_is_done_to_a_cache_leaves_it_right(model: Any, change: str) -> None:
    """Cut back, other sequences, copies, a new start: then it goes on as a DynamicCache does."""
    ids, more = some_ids(2, 13), some_ids(2, 4, seed=3)
    found = []
    for cache in (DynamicCache(), GrowingCache()):
        model(ids, past_key_values=cache)
        if change == "crop":
            cache.crop(-4)
        elif change == "select":
            cache.batch_select_indices(torch.tensor([1, 0]))
        elif change == "repeat":
            cache.batch_repeat_interleave(2)
        elif change == "deepcopy":
            other = deepcopy(cache)
            model(some_ids(2, 3, seed=9), past_key_values=other)
        else:
            cache.reset()
        given = more.repeat_interleave(2, dim=0) if change == "repeat" else more
        pieces = [model(piece, past_key_values=cache).logits for piece in given.split(1, dim=1)]
        found.append((torch.cat(pieces, dim=1), *parts(cache)))
    assert all(torch.equal(*both) for both in zip(*found, strict=True))


def test_gradients_flow_through_it(model: Any) -> None:
    """Room is not used where a token passes gradients on: the second piece's loss reaches the first."""
    ids, grads = some_ids(1, 8), []
    for cache in (DynamicCache(), GrowingCache()):
        model.zero_grad()
        with torch.enable_grad():
            model.requires_grad_(True)
            model(ids[:, :5], past_key_values=cache)
            model(ids[:, 5:], past_key_values=cache).logits.square().mean().backward()
        grads.append(model.get_submodule("model.layers.0.self_attn.v_b_proj").weight.grad.clone())
    assert torch.equal(*grads)
    assert grads[0].abs().sum() > 0


def test_what_inference_mode_filled_goes_on_outside_of_it(model: Any) -> None:
    ids, cache = some_ids(1, 9), GrowingCache()
    with torch.inference_mode():
        model(ids[:, :6], past_key_values=cache)
    with torch.no_grad():
        found = [model(piece, past_key_values=cache).logits for piece in ids[:, 6:].split(1, dim=1)]
        expected = [
            model(piece, past_key_values=usual).logits
            for usual in [DynamicCache()]
            for piece in ids.split((6, 1, 1, 1), dim=1)
        ][1:]
    assert all(torch.equal(*both) for both in zip(found, expected, strict=True))


def test_generate_fills_it_unless_told_otherwise(model: Any) -> None:
    ids, asked = some_ids(1, 6), {"max_new_tokens": 3, "do_sample": False, "return_dict_in_generate": True}
    assert isinstance(model.generate(ids, **asked).past_key_values, GrowingCache)
    own = DynamicCache()
    assert model.generate(ids, past_key_values=own, **asked).past_key_values is own
    assert model.generate(ids, use_cache=False, **asked).past_key_values is None
    static = model.generate(ids, cache_implementation="dynamic", **asked).past_key_values
    assert not isinstance(static, GrowingCache)


def test_sliding_layers_keep_their_window_and_no_room() -> None:
    """A config that says so; without it every token stays, as evaluation needs."""
    config = MistralConfig(num_hidden_layers=2, sliding_window=8)
    assert all(type(one) is DynamicSlidingWindowLayer for one in GrowingCache(config).layers)
    cache = GrowingCache()
    cache.update(torch.zeros(1, 1, 20, 4), torch.zeros(1, 1, 20, 4), 0)
    assert type(cache.layers[0]) is GrowingLayer
    assert cache.get_seq_length() == 20
