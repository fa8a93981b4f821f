# SPDX-License-Identifier: Apache-2.0
"""A cache of integers: what it stores, in how many bytes, and that whatever fills a cache can fill it."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from core.evaluate.kv_memory import formula_kv_bytes, held_bytes, measure_kv_bytes
from core.evaluate.retrieval.asking import continuation_loss
from core.kv_budget import EXACT_TOKENS, ROPE_BITS
from core.modeling import LatentCache, modeling_mla
from core.modeling.modeling_mla import EXACT_FIRST, EXACT_NEWEST, Grid
from tests.modeling.exact_layouts import convert_layouts
from tests.modeling.exact_mla import distance, some_ids

# mean squared error of the best uniform quantiser of a normal variable (Max 1960, table II)
NOISE = {4: 0.01154, 2: 0.1188}


def quantised(base: Any, bits: int) -> Any:
    """Latents beside rotary keys, and latents alone, by turns, with the scales of what they cache."""
    model = convert_layouts(base, ("shared", "pre-rope"))
    config = model.config
    config.mla_layers = [asdict(replace(shape, latent_bits=bits)) for shape in config.shapes()]
    found = type(model)(config).to(model.dtype).eval()
    found.load_state_dict(model.state_dict(), strict=False)
    cache = DynamicCache()
    model(some_ids(2, 128), past_key_values=cache)
    for layer, kept in zip(found.model.layers, cache.layers, strict=True):
        attention = layer.self_attn
        rows = torch.cat([kept.keys.squeeze(1), kept.values.transpose(1, 2).flatten(2)], dim=-1).flatten(0, 1)
        attention.kv_scale.copy_(rows.std(dim=0))
        attention.kv_zero.copy_(rows.mean(dim=0))
    return found


@pytest.fixture
def model(gqa: Any) -> Any:
    return quantised(gqa, 8)


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("numbers", [1, 7, 64])
def test_numbers_are_stored_in_the_bytes_they_say(bits: int, numbers: int) -> None:
    """Whole bytes, one more for the size; numbers that share a byte come back in their places."""
    grid = Grid(bits, torch.rand(numbers) + 0.5, torch.randn(numbers))
    rows = grid.zero + grid.scale * torch.randn(3, 20, numbers)
    packed = grid.encode(rows)
    assert packed.dtype == torch.uint8
    assert packed.shape == (3, 20, grid.width)
    assert grid.width == 1 + (numbers * bits + 7) // 8
    lost = (grid.decode(packed, torch.float32) - rows) / grid.scale
    # of a variance of 1; 2 bits lose 0.12 of many numbers and 0.22 of one, a number in the wrong place 2
    assert float(lost.square().mean()) < 0.3


@pytest.mark.parametrize("bits", [4, 2])
@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0])
def test_normal_channels_lose_what_theory_says(bits: int, size: float) -> None:
    """Whatever the size of a token: an eighth of an octave is at most 4.4 % off, which costs under 5 %."""
    torch.manual_seed(0)
    rows = size * torch.randn(1, 2000, 256)
    grid = Grid(bits, torch.ones(256), torch.zeros(256))
    lost = (grid.decode(grid.encode(rows), torch.float32) - rows).square().mean() / size**2
    assert float(lost) == pytest.approx(NOISE[bits], rel=0.05)


def test_eight_bits_clip_nothing() -> None:
    """One channel a hundred times the others: half a step of the largest number is the largest error."""
    rows = torch.randn(1, 50, 16)
    rows[..., 3] *= 100
    grid = Grid(8, torch.ones(16), torch.zeros(16))
    error = (grid.decode(grid.encode(rows), torch.float32) - rows).abs().amax(dim=-1)
    # a step is 1/128 of the largest number, or one rounding of its size (an eighth of an octave) more
    assert bool((error <= rows.abs().amax(dim=-1) / 256 * 2**0.125 * 1.001).all())


def test_a_token_of_zeros_is_stored() -> None:
    grid = Grid(4, torch.ones(5), torch.zeros(5))
    assert float(grid.decode(grid.encode(torch.zeros(1, 1, 5)), torch.float32).abs().max()) < 1e-4


@pytest.mark.parametrize("bits", [8, 4, 2])
@torch.no_grad()
def test_the_bytes_of_a_cache_are_those_of_the_formula(gqa: Any, bits: int) -> None:
    model = quantised(gqa, bits)
    wanted = 0
    for shape in model.config.shapes():
        rope = shape.cached_rope_numbers
        wanted += 1 + -(-shape.kv_lora_rank * bits // 8) + (1 + rope if rope else 0)
    assert formula_kv_bytes(model.config, model.dtype) == wanted
    assert measure_kv_bytes(model) == measure_kv_bytes(model, 7) == wanted


@torch.no_grad()
def test_first_and_newest_tokens_are_exact(gqa: Any) -> None:
    """The newest are exact until as many others have come; what is in between is not."""
    model, plain = quantised(gqa, 4), DynamicCache()
    cache = model.new_cache()
    ids = some_ids(2, 60)
    model(ids, past_key_values=plain)
    model(ids, past_key_values=cache)
    for stored, layer in zip(cache.layers, plain.layers, strict=True):
        exact = torch.cat([layer.keys.squeeze(1), layer.values.transpose(1, 2).flatten(2)], dim=-1)
        assert torch.equal(stored.first, exact[:, :EXACT_FIRST])
        assert torch.equal(stored.newest, exact[:, -EXACT_NEWEST:])
        assert stored.packed.shape[1] == 60 - EXACT_FIRST - EXACT_NEWEST == 60 - EXACT_TOKENS
    assert modeling_mla.ROPE_BITS == ROPE_BITS


@torch.no_grad()
def test_prefill_is_exact_and_decode_reads_integers(gqa: Any) -> None:
    """One pass loses nothing; later tokens lose the less, the more bits there are."""
    ids, far = some_ids(2, 80), []
    exact = quantised(gqa, 8)(ids, use_cache=False).logits
    for bits in (8, 4, 2):
        model = quantised(gqa, bits)
        assert distance(model(ids).logits, exact) == 0
        cache = model.new_cache()
        pieces = [model(part, past_key_values=cache).logits for part in ids.split(16, dim=1)]
        far.append(distance(torch.cat(pieces, dim=1), exact))
        assert cache.get_seq_length() == 80
    assert 0 < far[0] < far[1] < far[2]


@torch.no_grad()
def test_generation_fills_integers_unless_a_call_says_otherwise(model: Any) -> None:
    ids = some_ids(1, 50)
    asked: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False, "return_dict_in_generate": True}
    plain = model.generate(ids, past_key_values=DynamicCache(), **asked)
    assert isinstance(model.generate(ids, **asked).past_key_values, LatentCache)
    assert isinstance(plain.past_key_values, DynamicCache)
    assert model.generate(ids, use_cache=False, **asked).past_key_values is None
    assert isinstance(model(ids).past_key_values, LatentCache)
    assert model(ids, use_cache=False).past_key_values is None


@torch.no_grad()
def test_beams_reorder_what_is_stored(model: Any) -> None:
    """Beam search on 8 bits finds what it finds without them: they change logits less than beams differ."""
    ids = some_ids(2, 50)
    beams: dict[str, Any] = {"num_beams": 3, "max_new_tokens": 6, "do_sample": False}
    found = model.generate(ids, **beams)
    assert torch.equal(found, model.generate(ids, past_key_values=DynamicCache(), **beams))


@torch.no_grad()
def test_weighing_answers_spoils_no_exact_token(gqa: Any) -> None:
    """Every choice is weighed by the same cache, whatever was weighed before it, and it is of integers."""
    model = quantised(gqa, 2)
    cache = model.new_cache()
    last = model(some_ids(1, 80), past_key_values=cache).logits[0, -1]
    choice = some_ids(1, 12, seed=5)[0].tolist()
    losses = {continuation_loss(model, cache, last, choice) for _ in range(3)}
    assert isinstance(cache, LatentCache)
    assert len(losses) == 1
    assert cache.get_seq_length() == 80


@torch.no_grad()
def test_a_cropped_cache_goes_on_where_it_was_cut(model: Any) -> None:
    """As assisted decoding does: back into the integers, and on with other tokens."""
    ids, other, cache = some_ids(2, 60), some_ids(2, 50, seed=5), model.new_cache()
    model(ids, past_key_values=cache)
    cache.crop(-50)
    assert cache.get_seq_length() == 10
    found = model(other, past_key_values=cache).logits
    expected = model(torch.cat([ids[:, :10], other], dim=1), use_cache=False).logits[:, 10:]
    # six of the ten tokens that are left went through 8 bits
    assert distance(found, expected) < 0.05 * float(expected.abs().max())
    cache.reset()
    assert cache.get_seq_length() == 0
    assert distance(model(ids, past_key_values=cache).logits, model(ids, use_cache=False).logits) == 0


@torch.no_grad()
def test_no_slice_keeps_a_prompt_alive(model: Any) -> None:
    """After a long prefill the cache holds what the formula and the exact tokens say, and nothing else."""
    cache = model.new_cache()
    model(some_ids(1, 200), past_key_values=cache)
    numbers = sum(shape.kv_lora_rank + shape.cached_rope_numbers for shape in model.config.shapes())
    packed = formula_kv_bytes(model.config, model.dtype) * (200 - EXACT_TOKENS)
    assert held_bytes(cache) == packed + EXACT_TOKENS * numbers * model.dtype.itemsize


def test_scales_are_saved_with_the_model(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path, dtype=model.dtype)
    for name in ("kv_scale", "kv_zero"):
        own, read = (getattr(one.model.layers[1].self_attn, name) for one in (model, again))
        assert torch.equal(own, read)


def test_bits_there_are_none_of_are_refused(gqa: Any) -> None:
    with pytest.raises(ValueError, match="latent_bits is 3"):
        quantised(gqa, 3)
