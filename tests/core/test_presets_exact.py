# SPDX-License-Identifier: Apache-2.0
"""What each preset promises about one layer: exact at keep 1 where it says so, and the published widths."""

from dataclasses import replace

import pytest
import torch
from random_layer import Case, Shape, random_case

from core.convert import convert_layer
from core.facts import ModelFacts
from core.planning import make_plan
from core.presets import PRESETS, spec_from_preset
from core.spec import Recipe

# float64 through covariances that are inverted on the way
EXACT = 1e-7
EXACT_AT_ONE = [name for name in PRESETS if name != "transmla"]


@pytest.fixture(scope="module", params=[False, True], ids=["no bias", "bias"])
def case(request: pytest.FixtureRequest) -> Case:
    return random_case(shape=Shape(has_bias=request.param))


@pytest.mark.parametrize("name", EXACT_AT_ONE)
def test_keeping_everything_is_exact(name: str, case: Case) -> None:
    module = case.converted(PRESETS[name].recipe, keep=1.0)
    assert case.difference(module) < EXACT


def test_transmla_shares_one_rope_key_whatever_is_kept(case: Case) -> None:
    """Half a head's dims rotate and nothing else does, so that it is not exact at keep 1 either."""
    module = case.converted(PRESETS["transmla"].recipe, keep=1.0)
    assert (module.shape.groups, module.shape.qk_rope_head_dim) == (1, case.shape.head_dim // 2)
    assert case.difference(module) > 1e-3


@pytest.mark.parametrize("form", ["joint", "split", "joint-qk-vo"])
def test_pre_rope_at_full_rank_is_exact_in_both_ways_of_reading(form: str, case: Case) -> None:
    """Expanded as in prefill, and rebuilt tile by tile as in decode."""
    module = case.converted(Recipe(layout="pre-rope", factor_form=form), keep=1.0)
    assert module.shape.cached_rope_numbers == 0
    for absorbed in (False, True):
        module.absorbed, module.tile = absorbed, 7
        assert case.difference(module) < EXACT


@pytest.mark.parametrize("name", PRESETS)
def test_more_bytes_lose_less_of_the_values(name: str, case: Case) -> None:
    """A joint latent may trade keys for values from one rank to the next, but not from a quarter to 80 %."""
    recipe, errors = PRESETS[name].recipe, []
    for keep in (0.25, 0.5, 0.8):
        plan = case.plan(recipe, keep=keep)
        layer = convert_layer(case.weights, case.statistics, case.inv_freq, plan, recipe)
        errors.append(layer.value_error)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.7 * errors[0]


@pytest.mark.parametrize("name", PRESETS)
def test_absorbed_equals_expanded(name: str, case: Case) -> None:
    module = case.converted(PRESETS[name].recipe, keep=0.4)
    x, positions = case.x[None, :30], torch.arange(30)[None]
    outputs = []
    for absorbed in (False, True):
        module.absorbed = absorbed
        with torch.no_grad():
            outputs.append(module(x, positions)[0])
    assert (outputs[0] - outputs[1]).abs().max() < EXACT


@pytest.mark.parametrize("name", PRESETS)
def test_dead_inputs_and_dead_heads_convert(name: str) -> None:
    """Channels that are always zero, a KV head that is zero, a query head that is zero: real checkpoints
    have all three, and a root or an inverse of them must not become NaN."""
    case = random_case()
    x = case.x.clone()
    x[:, 3] = 0
    weights = replace(case.weights, q=case.weights.q.clone(), k=case.weights.k.clone())
    weights.k[:8] = 0
    weights.q[8:16] = 0
    dead = replace(case, weights=weights, x=x)
    covariance = x.T @ x / len(x)
    statistics = replace(
        case.statistics, input_covariance=covariance, input_mean=x.mean(dim=0), input_l1=x.abs().mean(dim=0)
    )
    module = replace(dead, statistics=statistics).converted(PRESETS[name].recipe, keep=0.5)
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    assert module.inv_freq.isfinite().all()


def demo_facts() -> ModelFacts:
    """SmolLM2-135M: 9 heads, 3 KV heads of 64 dims."""
    return replace(Shape(heads=9, kv_heads=3, head_dim=64, width=576)).facts


WIDTHS = {
    # preset -> (groups, rotary dims, other dims, latent) at -68.75 %, 120 of 384 numbers
    "transmla": (1, 32, 64, 88),
    "mha2mla": (3, 8, 56, 96),
    "fast": (1, 16, 64, 104),
    "quality": (0, 64, 0, 120),
}


@pytest.mark.parametrize("name", WIDTHS)
def test_widths_on_the_demo_model(name: str) -> None:
    """TransMLA's own tool takes 32 rotary dims and a latent of 88 here; MHA2MLA, table 1: 8 and 3 x 32."""
    (layer,) = make_plan(spec_from_preset(name, keep=0.3125), demo_facts()).layers
    found = (layer.groups, layer.qk_rope_head_dim, layer.qk_nope_head_dim, layer.kv_lora_rank)
    assert found == WIDTHS[name]
    assert layer.cached_numbers == 120
