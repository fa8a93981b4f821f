# SPDX-License-Identifier: Apache-2.0
"""With no rank cut, the latent model computes what the original computes."""

from typing import Any

import pytest
import torch

from tests.modeling.exact_mla import PAIRS, all_pairs, convert_exactly, distance, force, make_base, some_ids

# Attention alone differs in float64 by the order of sums only.
ROUNDING = 1e-12
# A whole model does not keep float64: Llama's RMSNorm rounds to float32 at every layer, where a difference
# in the last float64 bit can become one float32 step (6e-8 of values up to 10, through two layers).
NORM_ROUNDING = 1e-5


@pytest.mark.parametrize("absorbed", [False, True])
def test_all_pairs_kept_gives_the_logits_of_the_base(base: Any, absorbed: bool) -> None:
    """Whatever the heads, biases and rope scaling, in expanded and absorbed form."""
    model = force(convert_exactly(base, all_pairs(base.config.num_key_value_heads)), absorbed)
    ids = some_ids()
    assert distance(model(ids).logits, base(ids).logits) < NORM_ROUNDING


@pytest.mark.parametrize("form", ["joint", "split"])
@pytest.mark.parametrize("absorbed", [False, True])
@pytest.mark.parametrize("kept", [[], [0], [5, 1, 2], [0, 2, 4, 6, 7]], ids=str)
def test_a_dropped_pair_is_a_pair_of_frequency_zero(
    base: Any, kept: list[int], absorbed: bool, form: str
) -> None:
    """Full rank leaves one difference to the base: dropped pairs do not turn. No kept pair means d_r = 0."""
    kv_heads = base.config.num_key_value_heads
    pairs = torch.tensor(kept, dtype=torch.int64).expand(kv_heads, -1)
    model = force(convert_exactly(base, pairs, form=form), absorbed)
    base.model.rotary_emb.inv_freq[[pair for pair in range(PAIRS) if pair not in kept]] = 0
    ids = some_ids()
    assert distance(model(ids).logits, base(ids).logits) < NORM_ROUNDING


@pytest.mark.parametrize("absorbed", [False, True])
def test_attention_alone_is_exact_to_float64_rounding(base: Any, absorbed: bool) -> None:
    """No RMSNorm in between, so nothing may hide behind float32."""
    model = force(convert_exactly(base, all_pairs(base.config.num_key_value_heads)), absorbed)
    hidden, positions = torch.randn(2, 9, 64, dtype=torch.float64), torch.arange(9)[None]
    rotation = base.model.rotary_emb(hidden, positions)
    old, new = base.model.layers[1].self_attn, model.model.layers[1].self_attn
    # None is causal for SDPA, which is the base's own implementation here
    expected, _ = old(hidden, position_embeddings=rotation, attention_mask=None)
    assert distance(new(hidden, positions)[0], expected) < ROUNDING


@pytest.mark.parametrize("absorbed", [False, True])
def test_one_shared_rope_key_is_enough_when_the_heads_agree(absorbed: bool) -> None:
    """groups = 1, DeepSeek's form: exact for a base whose KV heads have the same keys."""
    base = make_base()
    for layer in base.model.layers:
        rows = layer.self_attn.k_proj.weight.data
        rows[16:] = rows[:16]
    for kept in (torch.arange(PAIRS).expand(2, -1), torch.tensor([3, 0, 5]).expand(2, -1)):
        shared = force(convert_exactly(base, kept, groups=1), absorbed)
        own = convert_exactly(base, kept)
        ids = some_ids()
        assert shared.model.layers[0].self_attn.inv_freq.shape[0] == 1
        assert distance(shared(ids).logits, own(ids).logits) < NORM_ROUNDING


def test_eager_masks_give_the_same_logits_as_sdpa(gqa: Any) -> None:
    """The additive float mask of `attn_implementation="eager"`, with padding, on both paths."""
    model = convert_exactly(gqa, torch.tensor([[0, 3], [1, 2]]))
    ids, mask = some_ids(), torch.ones(2, 13, dtype=torch.int64)
    mask[0, :4] = 0
    expected = model(ids, attention_mask=mask).logits
    model.set_attn_implementation("eager")
    for absorbed in (False, True):
        found = force(model, absorbed)(ids, attention_mask=mask).logits
        # rows of padding tokens attend to nothing and mean nothing
        assert distance(found[mask.bool()], expected[mask.bool()]) < NORM_ROUNDING


def test_float32_is_within_the_required_thousandth(gqa: Any) -> None:
    """The product's claim in the checkpoint's usual precision: logits differ by less than 1e-3."""
    model = convert_exactly(gqa, all_pairs(2)).float()
    ids = some_ids(tokens=64)
    assert distance(model(ids).logits, gqa.float()(ids).logits) < 1e-3


def test_base_and_converted_live_in_one_process(gqa: Any) -> None:
    """Building and running a converted model leaves the base as it was, and the other way round."""
    ids = some_ids()
    before, attention = gqa(ids).logits, type(gqa.model.layers[0].self_attn)
    model = convert_exactly(gqa, torch.tensor([[0], [1]]))
    first = model(ids).logits
    assert distance(first, before) > 0.01, "the two models must differ for this test to mean anything"
    again = make_base()
    assert type(again.model.layers[0].self_attn) is attention
    assert torch.equal(again(ids).logits, before)
    assert torch.equal(gqa(ids).logits, before)
    assert torch.equal(model(ids).logits, first)


def test_gradient_reaches_every_weight_when_expanded(gqa: Any) -> None:
    """Healing trains through prefill; the loss is the base's own."""
    model = convert_exactly(gqa, torch.tensor([[0, 3], [1, 2]])).train()
    ids = some_ids()
    model(ids, labels=ids).loss.backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []
