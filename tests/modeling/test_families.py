# SPDX-License-Identifier: Apache-2.0
"""Soft-caps, sliding windows and norms of queries and keys: with no rank cut, nothing changes.

Texts are three windows long, so a slot that a sliding cache gave up, or one it kept too long, shows.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import DynamicCache, StaticCache

from tests.modeling.exact_families import (
    FAMILIES,
    KINDS,
    WINDOW,
    convert_family,
    ids,
    make_family,
    windows_of,
)
from tests.modeling.exact_layouts import set_tile
from tests.modeling.exact_mla import distance, force
from tests.modeling.test_exactness import NORM_ROUNDING

# rebuilt keys come in several tiles also within one window
TILE = 4


@pytest.fixture(scope="module")
def bases() -> dict[str, Any]:
    """One random model of each family, float64."""
    return {name: make_family(name) for name in FAMILIES}


@pytest.fixture(params=FAMILIES)
def base(request: pytest.FixtureRequest, bases: dict[str, Any]) -> Any:
    return bases[request.param]


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest, base: Any) -> Any:
    """The base rewritten in one layout."""
    return set_tile(convert_family(base, (request.param,)), TILE)


@pytest.mark.parametrize("absorbed", [False, True])
def test_full_rank_gives_the_logits_of_the_base(base: Any, model: Any, absorbed: bool) -> None:
    """A causal mask of the model's own making; and with padding, what the base says of the text alone.

    (Padded, eager attention of a float64 base is NaN: its softmax is float32, where a mask is -inf.)
    """
    force(model, absorbed)
    assert distance(model(ids()).logits, base(ids()).logits) < NORM_ROUNDING
    mask = torch.ones(2, 17, dtype=torch.int64)
    mask[0, :4] = 0
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    found = model(ids(), attention_mask=mask, position_ids=positions).logits
    assert distance(found[0, 4:], base(ids()[:1, 4:]).logits[0]) < NORM_ROUNDING
    assert distance(found[1], base(ids()[1:]).logits[0]) < NORM_ROUNDING


def test_token_by_token_beyond_the_window_equals_prefill(base: Any, model: Any) -> None:
    """On the cache a user gets, whose sliding layers forget, and on one that forgets nothing."""
    expected = base(ids()).logits
    for cache in (DynamicCache(config=model.config), DynamicCache()):
        steps = [model(ids()[:, [t]], past_key_values=cache).logits for t in range(17)]
        assert distance(torch.cat(steps, dim=1), expected) < NORM_ROUNDING


def test_pieces_shorter_and_longer_than_the_window_equal_prefill(base: Any, model: Any) -> None:
    """A piece may begin within the window, fill it, and pass over it in one step; by either path."""
    expected = base(ids()).logits
    for absorbed in (False, True):
        cache = DynamicCache(config=model.config)
        force(model, absorbed)
        parts = [model(part, past_key_values=cache).logits for part in ids().split((3, 1, 4, 2, 7), dim=1)]
        assert distance(torch.cat(parts, dim=1), expected) < NORM_ROUNDING


def test_a_sliding_layer_caches_its_window_only(base: Any, model: Any) -> None:
    """window - 1 slots: the next token brings the last one. Other layers cache the whole text."""
    cache = model(ids(), use_cache=True).past_key_values
    slots = [17 if window is None else window - 1 for window in windows_of(base)]
    assert [layer.keys.shape[-2] for layer in cache.layers] == slots
    assert [layer.values.shape[-2] for layer in cache.layers] == slots


def test_generation_beyond_the_window_is_the_bases(base: Any, model: Any) -> None:
    """Greedy, from prompts shorter than the window, one of them padded, to three windows."""
    prompt, mask = ids(2, 4), torch.ones(2, 4, dtype=torch.int64)
    mask[0, :2] = 0
    settings = {"max_new_tokens": 3 * WINDOW, "min_new_tokens": 3 * WINDOW, "do_sample": False}
    found = model.generate(prompt, attention_mask=mask, **settings)
    for row, start in ((0, 2), (1, 0)):
        alone = prompt[row : row + 1, start:]
        expected = base.generate(alone, attention_mask=torch.ones_like(alone), **settings)
        assert found[row, start:].tolist() == expected[0].tolist()


@pytest.mark.parametrize("kind", ["shared", "pre-rope"])
def test_a_static_cache_with_sliding_layers_gives_the_tokens_of_the_base(base: Any, kind: str) -> None:
    """Preallocated slots fill, overflow, and are then rolled by one; both halves have one number of heads."""
    model = set_tile(convert_family(base, (kind,)), TILE)
    settings = {"max_new_tokens": 3 * WINDOW, "min_new_tokens": 3 * WINDOW, "do_sample": False}
    for tokens in (3, WINDOW + 2):
        prompt = ids(2, tokens)
        settings["attention_mask"] = torch.ones_like(prompt)
        cache = StaticCache(config=model.config, max_cache_len=40)
        found = model.generate(prompt, past_key_values=cache, **settings)
        assert torch.equal(found, base.generate(prompt, **settings))


def test_the_tiny_models_would_show_a_missing_ability(bases: dict[str, Any]) -> None:
    """A cap or window that were left out would change logits by far more than rounding."""
    for name in ("gemma2", "gemma3", "qwen3 with windows"):
        model, expected = convert_family(bases[name], ("pre-rope",)), bases[name](ids()).logits
        if name == "gemma2":
            for layer in model.model.layers:
                layer.self_attn.shape = replace(layer.self_attn.shape, softcap=None)
        else:
            model.model.config.sliding_window = 100
        assert distance(model(ids()).logits, expected) > 1000 * NORM_ROUNDING, name
