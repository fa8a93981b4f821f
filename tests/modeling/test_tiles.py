# SPDX-License-Identifier: Apache-2.0
"""Decode of the pre-rope layout: keys rebuilt a tile at a time under a running softmax, never whole."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from core.modeling import LatentAttention, LatentShape
from core.modeling.modeling_mla import TILE, slot_positions
from tests.modeling.exact_mla import distance
from tests.modeling.test_paths import ROUNDING, Allocations, layer_of

KV_HEADS, KEY_DIMS, RANK = 2, 12, 20


@pytest.fixture
def layer() -> LatentAttention:
    """Two KV heads of 12 dims, four query heads, a latent of 20; a bias on the keys."""
    torch.manual_seed(0)
    shape = LatentShape(
        RANK, RANK, RANK, 0, KEY_DIMS, 0, 8, True, False, True, k_b_bias=True, layout="pre-rope"
    )
    return layer_of(shape, 2 * KV_HEADS, KV_HEADS)


def decode(layer: LatentAttention, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
    """The last of `hidden` after a prefill of the others, by whichever path is set."""
    cache, past = DynamicCache(), hidden.shape[1] - 1
    layer(hidden[:, :past], torch.arange(past)[None], past_key_values=cache)
    output, _ = layer(hidden[:, past:], torch.tensor([[past]]), mask, past_key_values=cache)
    return output


def by_both(layer: LatentAttention, run: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """(expanded, tiled)."""
    outputs = []
    for absorbed in (False, True):
        layer.absorbed = absorbed
        outputs.append(run())
    return outputs[0], outputs[1]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("context", [1, 7, 8, 9, 16, 17, 40])
def test_any_context_against_a_tile_of_eight(layer: LatentAttention, context: int, batch: int) -> None:
    """Below, equal to, just above and several times a tile; a batch of three leaves two positions each."""
    layer.tile = 8
    hidden = torch.randn(batch, context + 1, 24, dtype=torch.float64)
    assert distance(*by_both(layer, lambda: decode(layer, hidden))) < ROUNDING


def test_the_tile_counts_the_tokens_of_the_whole_batch(
    layer: LatentAttention, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the working memory does not grow with the batch; a batch above the tile still moves on."""
    assert layer.tile == TILE
    seen: list[tuple[int, ...]] = []
    rebuild = layer._rebuilt_keys
    monkeypatch.setattr(layer, "_rebuilt_keys", lambda part, at: seen.append(part.shape) or rebuild(part, at))
    for batch, tile, expected in ((1, 6, [6, 6, 1]), (2, 6, [3, 3, 3, 3, 1]), (5, 4, [1] * 13)):
        layer.tile = tile
        seen.clear()
        latent = torch.randn(batch, 13, RANK, dtype=torch.float64)
        query = torch.randn(batch, 4, 1, KEY_DIMS, dtype=torch.float64)
        layer._attend_tiled(query, latent, torch.arange(13)[None], None)
        assert seen == [(batch, width, RANK) for width in expected]


def test_whole_tiles_may_be_hidden(layer: LatentAttention) -> None:
    """Left padding longer than the first tile, and empty slots behind the last token: no weight, no NaN."""
    layer.tile = 4
    hidden = torch.randn(2, 20, 24, dtype=torch.float64)
    mask = torch.ones(2, 1, 1, 20, dtype=torch.bool)
    mask[0, ..., :9] = False
    mask[1, ..., 11:19] = False
    expanded, tiled = by_both(layer, lambda: decode(layer, hidden, mask))
    assert distance(expanded, tiled) < ROUNDING
    added = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, torch.finfo(torch.float64).min)
    assert distance(decode(layer, hidden, added), tiled) < ROUNDING
    layer.absorbed = True
    assert decode(layer, hidden, torch.zeros_like(mask)).isfinite().all(), "a row that sees nothing"


@pytest.mark.parametrize("order", ["rising", "falling"])
def test_scores_of_any_size_are_weighed_rightly(layer: LatentAttention, order: str) -> None:
    """Logits in the thousands that rise or fall from tile to tile: e^1000 must never be computed."""
    layer.tile = 5
    hidden = torch.randn(1, 31, 24, dtype=torch.float64)
    growth = torch.linspace(0, 300, 31, dtype=torch.float64)
    hidden *= (growth if order == "rising" else growth.flip(0))[None, :, None] + 30
    expanded, tiled = by_both(layer, lambda: decode(layer, hidden))
    scale = expanded.abs().max()
    assert tiled.isfinite().all()
    assert distance(expanded / scale, tiled / scale) < ROUNDING


def test_the_running_softmax_is_kept_in_float32(layer: LatentAttention) -> None:
    """600 tiles in bfloat16 are no worse than one: sums over tiles in bfloat16 would drift by percents.

    2^-8 is one bfloat16 rounding; keys, scores, weights and output are each rounded once or twice.
    """
    hidden = torch.randn(1, 600, 24, dtype=torch.float64)
    layer.absorbed = False
    exact = decode(layer, hidden)
    layer.to(torch.bfloat16).absorbed = True
    errors = {}
    for tile in (1, TILE):
        layer.tile = tile
        errors[tile] = distance(decode(layer, hidden.bfloat16()).double(), exact) / float(exact.abs().max())
    assert errors[1] < 8 * 2**-8
    assert errors[1] < 2 * errors[TILE] + 2**-8


@torch.no_grad()
def test_a_decode_step_never_holds_all_keys(layer: LatentAttention) -> None:
    """Nothing of the size of the context's keys exists; the largest new tensor is the growing cache."""
    layer.tile, cached = 16, 400
    hidden, cache = torch.randn(2, cached, 24, dtype=torch.float64), DynamicCache()
    layer(hidden, torch.arange(cached)[None], past_key_values=cache)
    keys = 2 * (cached + 1) * KV_HEADS * KEY_DIMS
    sizes = {}
    for absorbed in (True, False):
        layer.absorbed = absorbed
        with Allocations() as seen:
            layer(hidden[:, :1], torch.tensor([[cached]]), past_key_values=cache)
        sizes[absorbed] = [op for op, numbers in seen.made if numbers >= keys // 4]
        cache.crop(-1)
    assert sizes[True] == ["aten.cat.default"], "only the cache itself may be this large"
    assert len(sizes[False]) > 1, "the expanded path rebuilds keys and values: the measure must see it"


@pytest.mark.parametrize(
    ("position_ids", "past", "cached", "expected"),
    [
        ([[0, 1, 2]], 0, 3, [[0, 1, 2]]),
        ([[7]], 7, 8, [[0, 1, 2, 3, 4, 5, 6, 7]]),
        # a row with three padding slots in front, and one without
        ([[1], [4]], 4, 5, [[-3, -2, -1, 0, 1], [0, 1, 2, 3, 4]]),
        # what a padded prefill passes is kept, whatever it says of the padding
        ([[0, 0, 0, 1, 2]], 0, 5, [[0, 0, 0, 1, 2]]),
        # a chunk, then the empty end of a static cache
        ([[2, 3]], 2, 6, [[0, 1, 2, 3, 4, 5]]),
        ([[2, 3]], torch.tensor(2), 6, [[0, 1, 2, 3, 4, 5]]),
    ],
)
def test_where_the_slots_of_a_cache_stand(
    position_ids: list[list[int]], past: Any, cached: int, expected: list[list[int]]
) -> None:
    assert slot_positions(torch.tensor(position_ids), past, cached).tolist() == expected
