# SPDX-License-Identifier: Apache-2.0
"""Every family: with no rank cut nothing changes, and what is cut is what was planned."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from core.calibrate.fisher import HEAD_ROWS, sample
from core.calibrate.tap import tap_of
from core.evaluate import WholeModel, formula_kv_bytes, measure_kv_bytes
from core.kv_budget import full_numbers
from core.modeling import LATENT_ROPE, LatentAttention
from core.presets import PRESETS
from core.rope.choices import CHOICES
from core.spec import Recipe
from tests.families.conftest import CONTEXT, Tiny

# float32 sums of two layers in another order, relative to the largest logit; a key at a wrong position, or a
# bias that is lost, changes logits by a tenth and more
ROUNDING = 1e-4
LAYOUTS = {"latent+rope": Recipe(), "pre-rope": Recipe(layout="pre-rope")}


def ids(tokens: int = 60) -> Tensor:
    """Longer than the windows."""
    return torch.randint(2, 258, (1, tokens), generator=torch.Generator().manual_seed(1))


def off(found: Tensor, wanted: Tensor) -> float:
    """Largest difference, of the largest logit."""
    return float((found - wanted).abs().max() / wanted.abs().max())


def forced(model: Any, absorbed: bool) -> Any:
    for module in model.modules():
        if isinstance(module, LatentAttention):
            module.absorbed, module.tile = absorbed, 16
    return model


def test_a_layer_at_a_time_gives_what_the_whole_model_gives(tiny: Tiny) -> None:
    """Calibration, trials and the probe of an export all run the original this way."""
    skeleton, tokens = tiny.skeleton, ids()
    hidden = skeleton.embed(tokens)
    for index in range(tiny.facts.layers):
        hidden = skeleton.run(index, skeleton.layer(index), hidden)
        skeleton.empty(index)
    found = skeleton.head().logits(skeleton.final_norm()(hidden))
    assert off(found, tiny.original(tokens).logits) < ROUNDING


@pytest.mark.parametrize("layout", LAYOUTS)
def test_full_rank_gives_the_original_logits(layout: str, tiny: Tiny) -> None:
    """Expanded and absorbed alike, and out of the model's own kind of cache, token by token."""
    model, plan = tiny.converted(LAYOUTS[layout], 1.0)
    tokens = ids()
    wanted = tiny.original(tokens).logits
    for absorbed in (False, True):
        assert off(forced(model, absorbed)(tokens).logits, wanted) < ROUNDING, absorbed
    cache = DynamicCache(config=model.config)
    steps = [model(tokens[:, :30], past_key_values=cache).logits[:, -1:]]
    steps += [model(tokens[:, at : at + 1], past_key_values=cache).logits for at in range(30, 60)]
    assert off(torch.cat(steps, dim=1), wanted[:, 29:]) < ROUNDING
    bytes_after = plan.kv_bytes_per_token_after
    assert formula_kv_bytes(model.config, torch.float32) == measure_kv_bytes(model) == bytes_after


def test_the_cache_of_the_original_is_what_the_facts_say(tiny: Tiny) -> None:
    """The chat page shows it beside the converted one's."""
    facts, numbers = tiny.facts, full_numbers(tiny.facts.kv_heads, tiny.facts.head_dim)
    assert facts.kv_bytes_per_token == facts.layers * numbers * 4
    assert formula_kv_bytes(tiny.original.config, torch.float32) == facts.kv_bytes_per_token
    assert measure_kv_bytes(tiny.original) == facts.kv_bytes_per_token


@pytest.mark.parametrize("preset", ["quality", "fast", "mha2mla", "transmla"])
def test_every_preset_converts_a_model_that_runs(preset: str, tiny: Tiny) -> None:
    """One token out of the cache agrees with the whole text; evaluation can split the model at its head."""
    model, plan = tiny.converted(PRESETS[preset].recipe, 0.4)
    tokens = ids()
    logits = model(tokens).logits
    assert logits.isfinite().all()
    start = model(tokens[:, :40], use_cache=True)
    step = model(tokens[:, 40:41], past_key_values=start.past_key_values).logits[:, -1]
    assert off(step, logits[:, 40]) < ROUNDING
    assert measure_kv_bytes(model) == plan.kv_bytes_per_token_after
    budget = 0.4 * tiny.facts.kv_numbers_per_layer
    assert all(budget - 1 <= layer.cached_numbers <= budget for layer in plan.layers)
    whole = WholeModel(model)
    assert off(whole.logits(whole.hidden(tokens[0])), logits[0]) < ROUNDING


@pytest.mark.parametrize("name", ["opt", "gpt2"])
@pytest.mark.parametrize("preset", ["quality", "fast", "mha2mla", "transmla"])
def test_half_the_cache_is_lossless_where_nothing_rotates(
    name: str, preset: str, families: dict[str, Tiny]
) -> None:
    """n_kv d_h = d: the latent is as wide as x itself, of which keys and values are linear maps (LatentLLM).

    No preset spends a number on rotary dims, and none rebuilds keys that no rotation keeps from being
    absorbed.
    """
    tiny = families[name]
    model, plan = tiny.converted(PRESETS[preset].recipe, 0.5)
    assert off(model(ids()).logits, tiny.original(ids()).logits) < ROUNDING
    for layer in plan.layers:
        assert layer.kv_lora_rank == layer.cached_numbers == tiny.facts.hidden_size
        assert layer.qk_rope_head_dim == 0
        assert layer.layout == LATENT_ROPE


@pytest.mark.parametrize(
    ("mix", "select"),
    # 2-norm looks at single heads: mixed ones are refused with it
    [("none", "2-norm"), *product(("none", "roro", "complex"), sorted(CHOICES.keys() - {"2-norm"}))],
)
@pytest.mark.parametrize("name", ["gpt_neox", "phi3 partly rotary"])
def test_no_cached_number_goes_to_a_pair_that_does_not_turn(
    mix: str, select: str, name: str, families: dict[str, Tiny]
) -> None:
    """Whatever the choice and however large the budget: rotary dims are at most the model's own."""
    tiny = families[name]
    recipe = Recipe(rope_select=select, rope_mix=mix)
    pairs = tiny.facts.rotary_dim // 2
    for keep in (0.3, 0.9):
        plan = tiny.plan(recipe, keep)
        for layer, latent in zip(plan.layers, tiny.layers(recipe, plan), strict=True):
            assert latent.tensors["inv_freq"].all()
            assert latent.tensors["inv_freq"].shape == (layer.groups, layer.qk_rope_head_dim // 2)
            assert all(pair < pairs for row in latent.kept for pair in row)
            assert all(len(row) == pairs for row in latent.scores)


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "qwen3", "qwen3_moe"])
@torch.enable_grad()
def test_gradients_a_layer_at_a_time_are_those_of_the_whole_model(
    name: str, families: dict[str, Tiny]
) -> None:
    """Through capped logits and scores, windows, and norms of queries and keys, to the keys and values."""
    tiny = families[name]
    taps = [tap_of(layer.self_attn, tiny.family, tiny.facts) for layer in tiny.original.model.layers]
    draw, seen = torch.Generator().manual_seed(0), []
    # the labels are drawn for as many windows at once as the backward pass takes
    for windows in tiny.sample.windows[: tiny.sample.fisher_windows].split(HEAD_ROWS // CONTEXT):
        logits = tiny.original(windows).logits.flatten(0, 1)
        labels = sample(logits.detach().softmax(dim=-1), draw)
        loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        taken = [tap.take() for tap in taps]
        outputs = [output for _, outputs, _ in taken for output in outputs]
        gradients = torch.autograd.grad(loss, outputs)
        parts = [tap.split(gradients[3 * index :][:3]) for index, tap in enumerate(taps)]
        seen.append([torch.cat(part[1:], dim=-1).flatten(0, 1).double() for part in parts])
    for tap in taps:
        tap.remove()
    for statistics, found in zip(tiny.statistics, map(torch.cat, zip(*seen, strict=True)), strict=True):
        assert statistics.fisher is not None
        # float32 gradients through two layers
        assert off(statistics.fisher, found.T @ found / len(found)) < 1e-3
