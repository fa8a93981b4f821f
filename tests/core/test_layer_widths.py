# SPDX-License-Identifier: Apache-2.0
"""Ranks and rotary pairs chosen layer by layer: planned as given, refused by layer and fix."""

import math
from typing import Any

import pytest
from random_layer import Shape

from core.errors import SpecError
from core.facts import ModelFacts
from core.planning import Plan, make_plan
from core.presets import spec_from_preset
from core.widths import Widths, solve

LAYERS = 3
# three KV heads of 8 dims (4 pairs): 48 numbers per token and layer
FACTS: ModelFacts = Shape().facts.model_copy(update={"layers": LAYERS})


def plan(preset: str, **fields: Any) -> Plan:
    return make_plan(spec_from_preset(preset, **fields), FACTS)


@pytest.mark.parametrize("preset", ["quality", "fast", "mha2mla"])
def test_given_ranks_are_the_plans(preset: str) -> None:
    """Rotary dims stay those of the budget; ranks are the given ones."""
    rope_dim = solve(spec_from_preset(preset, keep=0.5), FACTS).rope_dim
    found = plan(preset, keep=0.5, layer_ranks=[12, 20, 5])
    assert not found.problems
    assert [layer.widths for layer in found.layers] == [Widths(rope_dim, rank) for rank in (12, 20, 5)]


def test_given_pairs_make_the_rotary_dims_and_the_budget_the_ranks() -> None:
    """keep 0.5 is 24 numbers: three rope keys of 2 x pairs dims, and what remains."""
    pairs = [[[0], [1], [3]], [[], [], []], [[0, 2], [1, 2], [0, 3]]]
    found = plan("mha2mla", keep=0.5, rope_pairs=pairs)
    assert not found.problems
    assert [layer.widths for layer in found.layers] == [Widths(2, 18), Widths(0, 24), Widths(4, 12)]
    assert [layer.cached_numbers for layer in found.layers] == [24] * LAYERS


def test_shared_pairs_are_counted_over_all_rows() -> None:
    """One rope key for all heads: five components of any row are ten dims."""
    found = plan("fast", keep=0.5, rope_pairs=[[[0, 1], [0, 3], [2]]] * LAYERS)
    assert [layer.widths for layer in found.layers] == [Widths(10, 14)] * LAYERS


def test_equal_choices_are_equal_specs() -> None:
    one, other = (spec_from_preset("mha2mla", rope_pairs=[[row] * 3] * LAYERS) for row in ([2, 0], [0, 2]))
    assert one == other


@pytest.mark.parametrize(
    ("preset", "fields", "field", "names"),
    [
        ("quality", {"layer_ranks": [9, 9]}, "layer_ranks", "2 layers, the model has 3"),
        ("quality", {"layer_ranks": [9, 99, 9]}, "layer_ranks", "layer 1: rank 99"),
        ("quality", {"layer_ranks": [9, 9, 1], "recipe": {"factor_form": "split"}}, "layer_ranks", "layer 2"),
        ("quality", {"rope_pairs": [[[0]] * 3] * 3}, "rope_pairs", "layer 0: the pre-rope"),
        ("fast", {"rope_pairs": [[[0]] * 3] * 2}, "rope_pairs", "2 layers, the model has 3"),
        ("fast", {"rope_pairs": [[[0]] * 3, [[0]] * 2, [[0]] * 3]}, "rope_pairs", "layer 1: 2 rows"),
        ("fast", {"rope_pairs": [[[0]] * 3, [[0], [4], [0]], [[0]] * 3]}, "rope_pairs", "layer 1: KV head 1"),
        ("mha2mla", {"rope_pairs": [[[0]] * 3, [[0]] * 3, [[0], [1, 2], [3]]]}, "rope_pairs", "layer 2: KV"),
        ("mha2mla", {"rope_pairs": [[[0, 1, 2, 3]] * 3] * 3, "keep": 0.25}, "keep", "layer 0: keep"),
    ],
)
def test_what_does_not_fit_is_a_problem_that_names_the_layer(
    preset: str, fields: dict[str, Any], field: str, names: str
) -> None:
    (problem,) = plan(preset, **fields).problems
    assert problem.field == field
    assert names in problem.message
    assert problem.hint


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"layer_ranks": [4, 0, 4]}, "layer_ranks"),
        ({"layer_ranks": [4, 4, 4], "kv_rank": 2}, "kv_rank"),
        ({"rope_pairs": [[[0, 0]]]}, "rope_pairs"),
        ({"rope_pairs": [[[-1]]]}, "rope_pairs"),
        ({"rope_pairs": [[[0]]], "rope_dim": 2}, "rope_dim"),
    ],
)
def test_what_no_model_could_have_is_refused_with_the_request(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecError) as caught:
        spec_from_preset("mha2mla", **fields)
    assert caught.value.field == field
    assert caught.value.hint


def test_the_largest_rank_is_accepted_and_one_more_is_not() -> None:
    """Keys and values of 24 dims each, less the rotary ones, in 40 inputs: at most 40."""
    most = min(40, 48)
    assert not plan("quality", layer_ranks=[most] * LAYERS).problems
    (problem,) = plan("quality", layer_ranks=[most, most + 1, most]).problems
    assert f"choose {most} or less" in problem.hint


def test_the_least_budget_that_is_named_is_enough() -> None:
    """Rotary dims rise with the budget, so room for a latent may begin above the first guess."""
    tiny = Shape(heads=1, kv_heads=1, head_dim=4, width=64).facts
    spec = spec_from_preset("fast", keep=0.1, recipe={"factor_form": "split"})
    (problem,) = make_plan(spec, tiny).problems
    least = float(problem.hint.split()[3].rstrip(","))
    assert not make_plan(spec.model_copy(update={"keep": least}), tiny).problems
    assert make_plan(spec.model_copy(update={"keep": least - 1 / 8}), tiny).problems
    assert math.isclose(least * 8, round(least * 8))
