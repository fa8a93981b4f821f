# SPDX-License-Identifier: Apache-2.0
"""A latent cache behaves as any cache of transformers: decode, chunks, batches, padding, beams."""

from typing import Any

import pytest
import torch
from transformers import DynamicCache, StaticCache

from tests.modeling.exact_mla import all_pairs, convert_exactly, distance, make_base, some_ids

# see test_exactness: RMSNorm rounds to float32
NORM_ROUNDING = 1e-5
KEPT = torch.tensor([[0, 3], [1, 6]])


@pytest.fixture
def model(gqa: Any) -> Any:
    """Two of eight pairs kept, different ones per KV head."""
    return convert_exactly(gqa, KEPT)


def test_token_by_token_equals_prefill(model: Any) -> None:
    """The absorbed path with a growing cache gives the logits of one expanded pass."""
    ids, cache = some_ids(), DynamicCache()
    steps = [model(ids[:, [t]], past_key_values=cache).logits for t in range(ids.shape[1])]
    assert distance(torch.cat(steps, dim=1), model(ids).logits) < NORM_ROUNDING


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


@pytest.mark.parametrize("how", [{}, {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}], ids=str)
def test_generate_gives_the_tokens_of_the_base(gqa: Any, how: dict[str, int]) -> None:
    """Greedy and beam search on a padded batch; beams reorder the latent cache."""
    model = convert_exactly(gqa, all_pairs(2))
    mask = torch.ones(2, 13, dtype=torch.int64)
    mask[0, :6] = 0
    ids = some_ids().where(mask.bool(), 1)
    settings = {"attention_mask": mask, "max_new_tokens": 12, "do_sample": False} | how
    assert torch.equal(model.generate(ids, **settings), gqa.generate(ids, **settings))


def test_the_users_own_cache_is_filled_with_latents(gqa: Any) -> None:
    """Cached numbers per token and layer are r + groups x d_r, in the order latent, rotary keys."""
    model, cache, ids = convert_exactly(gqa, KEPT), DynamicCache(), some_ids()
    model.generate(ids, past_key_values=cache, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    assert cache.get_seq_length() == 13 + 3
    shape = model.config.shapes()[0]
    assert [layer.keys.shape for layer in cache.layers] == [(2, 1, 16, shape.kv_lora_rank)] * 2
    assert [layer.values.shape for layer in cache.layers] == [(2, 2, 16, 4)] * 2


def test_a_static_cache_longer_than_the_text_is_not_attended(gqa: Any) -> None:
    """Preallocated slots are empty: neither prefill nor decode may see them.

    groups = 1, because StaticCache allocates both of its tensors with one number of heads.
    """
    model, ids = convert_exactly(gqa, KEPT[:1].expand(2, -1), groups=1), some_ids()
    cache = StaticCache(config=model.config, max_cache_len=32)
    first = model(ids[:, :-1], past_key_values=cache).logits
    last = model(ids[:, -1:], past_key_values=cache).logits
    assert distance(torch.cat([first, last], dim=1), model(ids).logits) < NORM_ROUNDING


@pytest.mark.parametrize("kept", [[], list(range(8))], ids=["no rope", "only rope"])
def test_extreme_splits_decode_too(kept: list[int]) -> None:
    """d_r = 0 caches an empty rope key, d_n = 0 has an empty U_k: decode must survive both."""
    model = convert_exactly(make_base(), torch.tensor(kept, dtype=torch.int64).expand(2, -1))
    ids, cache = some_ids(), DynamicCache()
    steps = [model(ids[:, [t]], past_key_values=cache).logits for t in range(ids.shape[1])]
    assert distance(torch.cat(steps, dim=1), model(ids).logits) < NORM_ROUNDING
