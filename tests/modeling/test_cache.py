# SPDX-License-Identifier: Apache-2.0
"""A latent cache behaves as any cache of transformers: decode, chunks, batches, padding, beams."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import DynamicCache, StaticCache

from core.evaluate.kv_memory import formula_kv_bytes, measure_kv_bytes
from tests.modeling.exact_layouts import convert_layouts, set_tile
from tests.modeling.exact_mla import convert_exactly, distance, force, make_base, some_ids

# see test_exactness: RMSNorm rounds to float32
NORM_ROUNDING = 1e-5
KEPT = torch.tensor([[0, 3], [1, 6]])


# cached tokens of a tile of rebuilt keys: a batch of two and 13 tokens have seven, the last one half full
TILE = 4
MODELS: dict[str, Callable[[Any], Any]] = {
    "two of eight pairs kept": lambda base: convert_exactly(base, KEPT),
    "shared": lambda base: convert_layouts(base, ("shared",)),
    "pre-rope": lambda base: set_tile(convert_layouts(base, ("pre-rope",)), TILE),
    "per-head, then pre-rope": lambda base: set_tile(convert_layouts(base, ("per-head", "pre-rope")), TILE),
    "pre-rope, then shared": lambda base: set_tile(convert_layouts(base, ("pre-rope", "shared")), TILE),
}
EXACT = [name for name in MODELS if name != "two of eight pairs kept"]


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, gqa: Any) -> Any:
    """Both layouts, and both in one cache; the layers of the mixed ones cache different widths."""
    return MODELS[request.param](gqa)


@pytest.fixture(params=EXACT)
def exact(request: pytest.FixtureRequest, gqa: Any) -> Any:
    """The models that keep every pair, so that they must do what the base does."""
    return MODELS[request.param](gqa)


def test_token_by_token_equals_prefill(model: Any) -> None:
    """The absorbed path with a growing cache gives the logits of one expanded pass."""
    ids, cache = some_ids(), DynamicCache()
    steps = [model(ids[:, [t]], past_key_values=cache).logits for t in range(ids.shape[1])]
    assert distance(torch.cat(steps, dim=1), model(ids).logits) < NORM_ROUNDING


@pytest.mark.parametrize("absorbed", [False, True])
def test_a_continuation_of_any_length_equals_prefill(model: Any, absorbed: bool) -> None:
    """Chunks of 4, 1, 5 and 3 tokens on one cache, by either path."""
    ids, cache = some_ids(), DynamicCache()
    expected = model(ids).logits
    force(model, absorbed)
    pieces = [model(part, past_key_values=cache).logits for part in ids.split((4, 1, 5, 3), dim=1)]
    assert distance(torch.cat(pieces, dim=1), expected) < NORM_ROUNDING


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_prefill_in_two_pieces_equals_one(model: Any, cut: int) -> None:
    """The second piece attends to the cached first one."""
    ids, cache = some_ids(), DynamicCache()
    pieces = [model(part, past_key_values=cache).logits for part in (ids[:, :cut], ids[:, cut:])]
    assert distance(torch.cat(pieces, dim=1), model(ids).logits) < NORM_ROUNDING


def test_left_padding_changes_nothing(model: Any) -> None:
    """A short sequence in a padded batch gives its logits alone, in prefill and in the step after."""
    long, short = some_ids(1, 13, seed=1), some_ids(1, 8, seed=2)
    padded = torch.cat([torch.full((1, 5), 1), short], dim=1)
    mask = torch.ones(2, 13, dtype=torch.int64)
    mask[1, :5] = 0
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    cache, alone = DynamicCache(), DynamicCache()
    batch = model(
        torch.cat([long, padded]), attention_mask=mask, position_ids=positions, past_key_values=cache
    )
    single = model(short, past_key_values=alone)
    assert distance(batch.logits[1, 5:], single.logits[0]) < NORM_ROUNDING
    step = torch.tensor([[7], [9]])
    longer = torch.cat([mask, torch.ones(2, 1, dtype=torch.int64)], dim=1)
    batch = model(step, attention_mask=longer, position_ids=positions[:, -1:] + 1, past_key_values=cache)
    single = model(step[1:], past_key_values=alone)
    assert distance(batch.logits[1], single.logits[0]) < NORM_ROUNDING


def test_a_padded_prefill_may_come_in_pieces(model: Any) -> None:
    """The first piece of a row may be padding to its end, or break off within its text."""
    short = some_ids(1, 6, seed=2)
    ids = torch.cat([some_ids(1, 13, seed=1), torch.cat([torch.full((1, 7), 1), short], dim=1)])
    mask = torch.ones(2, 13, dtype=torch.int64)
    mask[1, :7] = 0
    positions, cache = (mask.cumsum(-1) - 1).clamp_min(0), DynamicCache()
    logits = []
    for start, end in ((0, 5), (5, 9), (9, 13)):
        found = model(
            ids[:, start:end],
            attention_mask=mask[:, :end],
            position_ids=positions[:, start:end],
            past_key_values=cache,
        )
        logits.append(found.logits)
    whole = torch.cat(logits, dim=1)
    assert distance(whole[0], model(ids[:1]).logits[0]) < NORM_ROUNDING
    assert distance(whole[1, 7:], model(short).logits[0]) < NORM_ROUNDING


def test_a_cache_that_was_cut_back_goes_on(model: Any) -> None:
    """Speculative decoding drops the last tokens and continues with others."""
    ids, cache = some_ids(), DynamicCache()
    model(torch.cat([ids[:, :9], some_ids(2, 4, seed=9)], dim=1), past_key_values=cache)
    cache.crop(-4)
    rest = model(ids[:, 9:], past_key_values=cache).logits
    assert distance(rest, model(ids).logits[:, 9:]) < NORM_ROUNDING


@pytest.mark.parametrize("how", [{}, {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}], ids=str)
def test_generate_gives_the_tokens_of_the_base(exact: Any, gqa: Any, how: dict[str, int]) -> None:
    """Greedy and beam search on a padded batch; beams reorder the latent cache."""
    mask = torch.ones(2, 13, dtype=torch.int64)
    mask[0, :6] = 0
    ids = some_ids().where(mask.bool(), 1)
    settings = {"attention_mask": mask, "max_new_tokens": 12, "do_sample": False} | how
    assert torch.equal(exact.generate(ids, **settings), gqa.generate(ids, **settings))


def test_the_users_own_cache_is_filled_with_latents(gqa: Any) -> None:
    """Cached numbers per token and layer are r + groups x d_r, in the order latent, rotary keys."""
    model, cache, ids = convert_exactly(gqa, KEPT), DynamicCache(), some_ids()
    model.generate(ids, past_key_values=cache, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    assert cache.get_seq_length() == 13 + 3
    shape = model.config.shapes()[0]
    assert [layer.keys.shape for layer in cache.layers] == [(2, 1, 16, shape.kv_lora_rank)] * 2
    assert [layer.values.shape for layer in cache.layers] == [(2, 2, 16, 4)] * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_cache_holds_what_the_formula_says(model: Any, dtype: torch.dtype) -> None:
    """Bytes of every layout, measured on a real cache: r + groups x d_r numbers, or r alone."""
    model = model.to(dtype)
    measured = measure_kv_bytes(model)
    assert measured == formula_kv_bytes(model.config, dtype)
    rows = sum(layer.self_attn.kv_a_proj_with_mqa.out_features for layer in model.model.layers)
    assert measured == rows * dtype.itemsize


def test_a_pre_rope_cache_is_one_latent_and_nothing_else(gqa: Any) -> None:
    """64 numbers for keys and values of both heads, at full rank; the other half of the cache is empty."""
    cache = DynamicCache()
    convert_layouts(gqa, ("pre-rope",))(some_ids(), past_key_values=cache)
    assert [layer.keys.shape for layer in cache.layers] == [(2, 1, 13, 64)] * 2
    assert [layer.values.numel() for layer in cache.layers] == [0, 0]


STATIC: dict[str, Callable[[Any], Any]] = {
    "per-head widths with one group": lambda base: convert_exactly(base, KEPT[:1].expand(2, -1), groups=1),
    "shared": MODELS["shared"],
    "pre-rope": MODELS["pre-rope"],
    "pre-rope, then shared": MODELS["pre-rope, then shared"],
}


@pytest.mark.parametrize("name", STATIC)
@pytest.mark.parametrize("is_padded", [False, True])
def test_a_static_cache_longer_than_the_text_is_not_attended(gqa: Any, name: str, is_padded: bool) -> None:
    """Preallocated slots are empty: neither prefill, nor a piece, nor decode may see them.

    Not for groups = n_kv, because StaticCache allocates both of its tensors with one number of heads.
    """
    model, ids = STATIC[name](gqa), some_ids()
    mask = torch.ones(2, 13, dtype=torch.int64)
    mask[0, :3] = 0 if is_padded else 1
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    cache, logits = StaticCache(config=model.config, max_cache_len=32), []
    for start, end in ((0, 8), (8, 12), (12, 13)):
        found = model(
            ids[:, start:end],
            attention_mask=mask[:, :end] if is_padded else None,
            position_ids=positions[:, start:end],
            past_key_values=cache,
        )
        logits.append(found.logits)
    expected = model(ids, attention_mask=mask, position_ids=positions).logits
    assert distance(torch.cat(logits, dim=1)[mask.bool()], expected[mask.bool()]) < NORM_ROUNDING


def test_generate_with_a_static_cache_gives_the_tokens_of_the_base(gqa: Any) -> None:
    """What `cache_implementation="static"` allocates fits a pre-rope layer and a shared rope key."""
    model, ids = MODELS["pre-rope, then shared"](gqa), some_ids()
    settings = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 8, "do_sample": False}
    cache = StaticCache(config=model.config, max_cache_len=40)
    assert torch.equal(model.generate(ids, past_key_values=cache, **settings), gqa.generate(ids, **settings))


@pytest.mark.parametrize("kept", [[], list(range(8))], ids=["no rope", "only rope"])
def test_extreme_splits_decode_too(kept: list[int]) -> None:
    """d_r = 0 caches an empty rope key, d_n = 0 has an empty U_k: decode must survive both."""
    model = convert_exactly(make_base(), torch.tensor(kept, dtype=torch.int64).expand(2, -1))
    ids, cache = some_ids(), DynamicCache()
    steps = [model(ids[:, [t]], past_key_values=cache).logits for t in range(ids.shape[1])]
    assert distance(torch.cat(steps, dim=1), model(ids).logits) < NORM_ROUNDING
