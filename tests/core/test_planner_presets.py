# SPDX-License-Identifier: Apache-2.0
"""Every preset on every shape of model: a budget is used, never exceeded, or refused with a fix."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_layer import Shape

from core.facts import ModelFacts
from core.planning import Plan, make_plan
from core.presets import PRESETS, spec_from_preset
from core.spec import Recipe
from core.widths import groups_of, key_limits

ARCHITECTURES = {
    "SmolLM2-135M": Shape(9, 3, 64, 576),
    "Llama-2-7B": Shape(32, 32, 128, 4096),
    "Llama-3-8B": Shape(32, 8, 128, 4096),
    "MQA": Shape(8, 1, 64, 512),
    "heads of 80": Shape(32, 32, 80, 2560),
    "heads wider than the model": Shape(4, 4, 128, 256),
    "tiny": Shape(4, 2, 16, 64),
    "a single pair": Shape(2, 1, 2, 8),
}
KEEPS = (0.02, 0.05, 0.1, 0.125, 0.1875, 0.25, 0.3125, 0.5, 0.501, 0.68, 0.75, 0.9, 0.99, 1.0)


def planned(preset: str, facts: ModelFacts, keep: float, **recipe: str) -> Plan:
    return make_plan(spec_from_preset(preset, keep=keep, weights_keep=None, recipe=recipe), facts)


def full_rank(recipe: Recipe, facts: ModelFacts, rope_dim: int) -> int:
    """The widest latent that is of any use: keys that do not rotate, and values, out of d inputs."""
    keys, values = key_limits(recipe, facts, rope_dim)
    return keys + values if recipe.factor_form == "split" else min(facts.hidden_size, keys + values)


@pytest.mark.parametrize("form", ["joint", "split"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_budget_is_used_and_never_exceeded(preset: str, architecture: str, form: str) -> None:
    facts = ARCHITECTURES[architecture].facts
    recipe = PRESETS[preset].recipe.model_copy(update={"factor_form": form})
    base, solved = facts.kv_numbers_per_layer, 0
    for keep in KEEPS:
        found = planned(preset, facts, keep, factor_form=form)
        if found.problems:
            continue
        solved += 1
        (layer,) = found.layers
        assert layer.cached_numbers <= keep * base + 1e-6
        rope_dim = layer.qk_rope_head_dim if layer.groups else 0
        if layer.kv_lora_rank < full_rank(recipe, facts, rope_dim):
            assert layer.cached_numbers >= keep * base - 1, f"bytes left unused at keep {keep}"
        assert layer.groups == groups_of(recipe, facts)
        assert rope_dim % 2 == 0
        assert 1 <= layer.kv_lora_rank <= full_rank(recipe, facts, rope_dim)
    assert solved >= (1 if facts.kv_numbers_per_layer < 8 else 4)  # four numbers can hardly be cut


@given(
    preset=st.sampled_from(sorted(PRESETS)),
    form=st.sampled_from(["joint", "split"]),
    shape=st.builds(
        lambda group, kv, pairs, width: Shape(group * kv, kv, 2 * pairs, width),
        st.integers(1, 8), st.integers(1, 16), st.integers(1, 128), st.sampled_from([64, 576, 4096]),
    ),
    keep=st.floats(1e-4, 1),
)  # fmt: skip
def test_an_impossible_budget_is_refused_with_one_that_is_possible(
    preset: str, form: str, shape: Shape, keep: float
) -> None:
    facts = shape.facts
    found = planned(preset, facts, keep, factor_form=form)
    if not found.problems:
        (layer,) = found.layers
        numbers = keep * facts.kv_numbers_per_layer
        assert math.floor(numbers + 1e-9) >= layer.cached_numbers
        return
    (problem,) = found.problems
    assert problem.field == "keep"
    said = re.search(r"keep at least ([\d.]+)", problem.hint)
    assert said is not None, problem.hint
    if float(said.group(1)) > 1:
        assert facts.kv_numbers_per_layer < 3 * facts.kv_heads + 2  # a cache this small cannot shrink
        return
    assert not planned(preset, facts, float(said.group(1)), factor_form=form).problems


@pytest.mark.parametrize("preset", PRESETS)
def test_bytes_rise_with_keep(preset: str) -> None:
    facts = ARCHITECTURES["SmolLM2-135M"].facts
    plans = [planned(preset, facts, keep / 100) for keep in range(10, 101)]
    sizes = [plan.kv_bytes_per_token_after for plan in plans]
    assert sizes == sorted(sizes)
    assert sizes[-1] <= plans[-1].kv_bytes_per_token_before
