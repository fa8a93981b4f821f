# SPDX-License-Identifier: Apache-2.0
"""The pre-rope layout, one shared rope key and mixtures of layers compute what the original computes."""

from typing import Any

import pytest
import torch
from transformers import DynamicCache

from tests.modeling.exact_layouts import convert_layouts, set_tile
from tests.modeling.exact_mla import distance, force, make_base, some_ids
from tests.modeling.test_exactness import NORM_ROUNDING, ROUNDING

KINDS = [("pre-rope",), ("pre-rope split",), ("shared",), ("per-head", "pre-rope"), ("pre-rope", "shared")]
# two tokens at a time for a batch of two: a text of 13 has seven tiles, the last one half full
SMALL = 4


@pytest.mark.parametrize("absorbed", [False, True])
@pytest.mark.parametrize("kinds", KINDS, ids=" + ".join)
def test_full_rank_gives_the_logits_of_the_base(base: Any, kinds: tuple[str, ...], absorbed: bool) -> None:
    """Whatever the heads, biases and rope scaling; yarn's factor counts in either layout."""
    model = set_tile(force(convert_layouts(base, kinds), absorbed), SMALL)
    ids = some_ids()
    assert distance(model(ids).logits, base(ids).logits) < NORM_ROUNDING


@pytest.mark.parametrize("absorbed", [False, True])
@pytest.mark.parametrize("kinds", KINDS[:3], ids=" + ".join)
def test_attention_alone_is_exact_to_float64_rounding(
    base: Any, kinds: tuple[str, ...], absorbed: bool
) -> None:
    """No RMSNorm in between, so nothing may hide behind float32."""
    model = set_tile(force(convert_layouts(base, kinds), absorbed), SMALL)
    hidden, positions = torch.randn(2, 9, 64, dtype=torch.float64), torch.arange(9)[None]
    rotation = base.model.rotary_emb(hidden, positions)
    old, new = base.model.layers[1].self_attn, model.model.layers[1].self_attn
    expected, _ = old(hidden, position_embeddings=rotation, attention_mask=None)
    assert distance(new(hidden, positions)[0], expected) < ROUNDING


@pytest.mark.parametrize("absorbed", [False, True])
def test_pairs_that_do_not_turn_go_through_the_latent(absorbed: bool) -> None:
    """The shared key's form with both parts at work: 6 slots (3 pairs of 2 heads) beside all 16 dims."""
    base = make_base(attention_bias=True)
    base.model.rotary_emb.inv_freq[[0, 2, 4, 6, 7]] = 0
    model, ids = force(convert_layouts(base, ("shared",)), absorbed), some_ids()
    shape = model.config.shapes()[0]
    assert (shape.qk_rope_head_dim, shape.qk_nope_head_dim) == (12, 16)
    assert distance(model(ids).logits, base(ids).logits) < NORM_ROUNDING


@pytest.mark.parametrize("cache", [None, "filled by this pass"])
@pytest.mark.parametrize("absorbed", [False, True])
def test_positions_of_new_tokens_are_taken_as_given(gqa: Any, absorbed: bool, cache: str | None) -> None:
    """A key turns to where its token says it stands, with gaps, repeats and another start in each row."""
    model = set_tile(force(convert_layouts(gqa, ("pre-rope",)), absorbed), SMALL)
    ids = some_ids()
    positions = torch.randint(0, 60, ids.shape, generator=torch.Generator().manual_seed(2))
    found = model(ids, position_ids=positions, past_key_values=cache and DynamicCache()).logits
    assert distance(found, gqa(ids, position_ids=positions).logits) < NORM_ROUNDING


def test_eager_masks_give_the_same_logits_as_sdpa(gqa: Any) -> None:
    """Additive float masks, with padding longer than a tile, on both paths of both layouts."""
    model = set_tile(convert_layouts(gqa, ("pre-rope", "per-head")), SMALL)
    ids, mask = some_ids(), torch.ones(2, 13, dtype=torch.int64)
    mask[0, :5] = 0
    expected = gqa(ids, attention_mask=mask).logits
    for implementation in ("sdpa", "eager"):
        model.set_attn_implementation(implementation)
        for absorbed in (False, True):
            found = force(model, absorbed)(ids, attention_mask=mask).logits
            # rows of padding tokens attend to nothing and mean nothing
            assert distance(found[mask.bool()], expected[mask.bool()]) < NORM_ROUNDING


def test_float32_is_within_the_required_thousandth(gqa: Any) -> None:
    """The product's claim in the checkpoint's usual precision: logits differ by less than 1e-3."""
    model = set_tile(convert_layouts(gqa, ("pre-rope", "shared")).float(), SMALL)
    ids = some_ids(tokens=64)
    expected = gqa.float()(ids).logits
    for absorbed in (False, True):
        assert distance(force(model, absorbed)(ids).logits, expected) < 1e-3


@pytest.mark.parametrize(
    "kinds", [("pre-rope",), ("per-head", "pre-rope split"), ("shared",)], ids=" + ".join
)
@pytest.mark.parametrize("has_bias", [False, True])
def test_gradient_reaches_every_weight_when_expanded(kinds: tuple[str, ...], has_bias: bool) -> None:
    """Healing trains through prefill, the bias of rebuilt keys included; the loss is the base's own."""
    base = make_base(attention_bias=has_bias)
    base.model.rotary_emb.inv_freq[3] = 0  # so that the shared form's U_k has something to say
    model, ids = convert_layouts(base, kinds).train(), some_ids()
    model(ids, labels=ids).loss.backward()
    # U_k is empty when every pair has its own cached key
    idle = [n for n, p in model.named_parameters() if p.numel() and (p.grad is None or not p.grad.any())]
    assert idle == []


def test_gradient_of_the_tiled_path_is_that_of_the_expanded_one(gqa: Any) -> None:
    """Nothing in the running softmax is done in place or left out of the graph."""
    model, ids = set_tile(convert_layouts(gqa, ("pre-rope",)), SMALL), some_ids()
    gradients = []
    for absorbed in (False, True):
        model.zero_grad()
        force(model, absorbed)(ids, labels=ids).loss.backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters()})
    for name, expected in gradients[0].items():
        assert distance(gradients[1][name], expected) < NORM_ROUNDING, name
