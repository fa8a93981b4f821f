# SPDX-License-Identifier: Apache-2.0
"""Rotary pairs chosen by hand, one layer at a time: the rule's own give the rule's layer, all are exact."""

from typing import Any

import pytest
import torch
from random_layer import random_case

from core.convert import convert_layer
from core.pair_scores import rule_pairs
from core.presets import PRESETS
from core.spec import Recipe

MHA2MLA = PRESETS["mha2mla"].recipe
SHARED = Recipe(rope_select="logit-damage", rope_mix="complex", freqfold=2, factor_input="root-covariance")


@pytest.mark.parametrize("recipe", [MHA2MLA, SHARED], ids=["by head", "shared"])
def test_naming_the_rules_own_pairs_gives_the_rules_layer(recipe: Recipe) -> None:
    case = random_case()
    usual = case.plan(recipe, keep=0.5)
    by_rule = convert_layer(case.weights, case.statistics, case.inv_freq, usual, recipe)
    named = case.plan(recipe, keep=0.5, rope_pairs=[by_rule.kept])
    assert named.widths == usual.widths
    by_name = convert_layer(case.weights, case.statistics, case.inv_freq, named, recipe)
    assert by_name.kept == by_rule.kept
    # the same arithmetic on the same pairs in the same order: not a bit differs
    assert all(torch.equal(by_name.tensors[name], value) for name, value in by_rule.tensors.items())


@pytest.mark.parametrize("mix", ["none", "roro", "complex"])
def test_every_pair_and_full_rank_is_exact(mix: str) -> None:
    """Named one by one, nothing stops rotating and nothing is cut: float64 rounding remains."""
    recipe = Recipe(rope_select="logit-damage", rope_mix=mix, factor_input="root-covariance")
    case = random_case()
    pairs = [[[0, 1, 2, 3]] * 3]
    assert case.difference(case.converted(recipe, rope_pairs=pairs, layer_ranks=[24])) < 1e-9


@pytest.mark.parametrize("recipe", [MHA2MLA, SHARED], ids=["by head", "shared"])
@pytest.mark.parametrize("pairs", [[[[3], [0], [2]]], [[[0, 3], [1, 2], [2, 3]]], [[[], [], []]]])
def test_whatever_is_named_is_kept(recipe: Recipe, pairs: list[Any]) -> None:
    """Not the largest scores, not one in every fold: the named ones, and a module that runs."""
    case = random_case()
    plan = case.plan(recipe, rope_pairs=pairs, layer_ranks=[12])
    layer = convert_layer(case.weights, case.statistics, case.inv_freq, plan, recipe)
    assert layer.kept == pairs[0]
    assert 0 < case.difference(case.module(plan, layer.tensors)) < 10


@pytest.mark.parametrize(
    ("mix", "select", "freqfold"),
    [("complex", "logit-damage", 0), ("roro", "uniform", 2), ("roro", "low", 3)],
)
@pytest.mark.parametrize("rope_dim", [2, 4, 6, 8])
def test_the_page_names_the_pairs_that_the_engine_keeps(
    mix: str, select: str, freqfold: int, rope_dim: int
) -> None:
    """From the engine's scores alone, without a tensor."""
    recipe = Recipe(rope_select=select, rope_mix=mix, freqfold=freqfold, factor_input="root-covariance")
    case = random_case()
    plan = case.plan(recipe, rope_dim=rope_dim, kv_rank=4)
    layer = convert_layer(case.weights, case.statistics, case.inv_freq, plan, recipe)
    assert rule_pairs(recipe, layer.scores, case.inv_freq.tolist(), rope_dim) == layer.kept
