# SPDX-License-Identifier: Apache-2.0
"""What a budget becomes: never more bytes than allowed, and every refusal says the way out."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core.errors import PlanError
from core.facts import ModelFacts
from core.planning import Plan, make_plan
from core.presets import spec_from_preset
from core.spec import JobSpec

FORMS = st.sampled_from(["joint", "split"])
SHAPES = st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(1, 64), st.sampled_from([64, 576, 4096]))


def model(heads: int, kv_heads: int, head_dim: int, hidden: int, layers: int = 3) -> ModelFacts:
    """Facts of a bfloat16 model of this shape; only what planning looks at is meaningful."""
    numbers = 2 * kv_heads * head_dim
    return ModelFacts(
        name="test", kind="folder", folder="", revision=None, model_type="llama", family="Llama",
        layers=layers, hidden_size=hidden, heads=heads, kv_heads=kv_heads, head_dim=head_dim,
        rotary_dim=head_dim, rope_type="default", rope_theta=1e4, max_context=2048, vocab_size=100,
        dtype="bfloat16", parameters=10**9, weight_bytes=2 * 10**9, is_tied=True, has_attention_bias=False,
        kv_numbers_per_layer=numbers, kv_bytes_per_token=layers * numbers * 2,
    )  # fmt: skip


def plan(facts: ModelFacts, form: str = "joint", **fields: Any) -> Plan:
    return make_plan(spec_from_preset("mha2mla", recipe={"factor_form": form}, **fields), facts)


SMOLLM = model(9, 3, 64, 576, layers=30)


@given(
    shape=SHAPES,
    form=FORMS,
    keeps=st.tuples(st.floats(0.001, 1), st.floats(0.001, 1)),
)
def test_bytes_never_exceed_keep_and_rise_with_it(
    shape: tuple[int, int, int, int], form: str, keeps: tuple[float, float]
) -> None:
    group, kv_heads, pairs, hidden = shape
    facts = model(group * kv_heads, kv_heads, 2 * pairs, hidden)
    less, more = (plan(facts, form, keep=keep) for keep in sorted(keeps))
    assume(not less.problems)
    assert not more.problems
    for found, keep in zip((less, more), sorted(keeps), strict=True):
        assert found.kv_bytes_per_token_after <= keep * found.kv_bytes_per_token_before + 1e-6
        assert found.keep <= keep + 1e-9
        for layer in found.layers:
            assert layer.cached_numbers == layer.kv_lora_rank + layer.groups * layer.qk_rope_head_dim
            assert layer.qk_rope_head_dim % 2 == 0
            assert layer.qk_rope_head_dim + layer.qk_nope_head_dim == facts.head_dim
    assert less.kv_bytes_per_token_after <= more.kv_bytes_per_token_after


@given(shape=SHAPES, form=FORMS, keep=st.floats(0.0001, 0.3))
def test_the_hint_of_a_budget_that_is_too_small_leads_to_a_plan(
    shape: tuple[int, int, int, int], form: str, keep: float
) -> None:
    group, kv_heads, pairs, hidden = shape
    facts = model(group * kv_heads, kv_heads, 2 * pairs, hidden)
    blocked = plan(facts, form, keep=keep)
    assume(blocked.problems)
    said = re.search(r"keep at least ([\d.]+)", blocked.problems[0].hint)
    assert said is not None
    assert not plan(facts, form, keep=float(said.group(1))).problems


@pytest.mark.parametrize(
    ("preset", "cached", "per_head", "millions"),
    [("mha2mla", 120, 32, 130.99), ("mha2mla-81", 72, 16, 129.64), ("mha2mla-87", 48, 8, 128.97)],
)
def test_budgets_of_the_paper_on_smollm(preset: str, cached: int, per_head: int, millions: float) -> None:
    """MHA2MLA, table 1: d_h = 64 keeps 8 rotary dims and 32, 16 or 8 latent numbers per head."""
    facts = SMOLLM.model_copy(update={"parameters": 134_515_008})
    found = make_plan(spec_from_preset(preset), facts)
    assert not found.problems
    assert [layer.cached_numbers for layer in found.layers] == [cached] * 30
    assert {layer.qk_rope_head_dim for layer in found.layers} == {8}
    assert {layer.kv_lora_rank for layer in found.layers} == {3 * per_head}
    assert found.kv_bytes_per_token_before == 30 * 384 * 2
    assert found.kv_bytes_per_token_after == 30 * cached * 2
    assert round(found.parameters_after / 1e6, 2) == millions


def test_keep_one_is_the_exact_model() -> None:
    """Every pair rotary, and a latent as wide as the values: nothing is dropped, nothing is saved."""
    for form in ("joint", "split"):
        found = plan(SMOLLM, form, keep=1.0)
        first = found.layers[0]
        assert (first.qk_rope_head_dim, first.qk_nope_head_dim) == (64, 0)
        assert (first.kv_lora_rank, first.v_rank) == (192, 192)
        assert found.keep == 1
        assert found.factor == 1


def test_explicit_widths_win_over_keep() -> None:
    found = plan(SMOLLM, keep=0.9, rope_dim=16, kv_rank=20)
    assert {(layer.qk_rope_head_dim, layer.kv_lora_rank) for layer in found.layers} == {(16, 60)}
    assert found.keep == pytest.approx((3 * 16 + 60) / 384)


def test_split_gives_half_to_each_and_the_odd_number_to_the_values() -> None:
    first = plan(SMOLLM, "split", rope_dim=8, kv_rank=32).layers[0]
    assert (first.k_rank, first.v_rank, first.kv_lora_rank) == (48, 48, 96)
    first = plan(SMOLLM, "split", rope_dim=8, kv_rank=15).layers[0]
    assert (first.k_rank, first.v_rank) == (22, 23)


def test_split_gives_away_what_one_side_cannot_use() -> None:
    """With 48 rotary dims only 3 x 16 keys are left to factorise; the values get the rest."""
    first = plan(SMOLLM, "split", rope_dim=48, kv_rank=64).layers[0]
    assert (first.k_rank, first.v_rank) == (48, 144)


def test_mha_keeps_one_rope_key_per_head() -> None:
    found = plan(model(32, 32, 128, 4096, layers=32), keep=0.3125)
    assert {(layer.groups, layer.qk_rope_head_dim, layer.kv_lora_rank) for layer in found.layers} == {
        (32, 16, 64 * 32)
    }


def test_a_full_latent_is_never_wider_than_the_model() -> None:
    """The rank of [K_nope; V] is at most hidden_size: more latent numbers would be wasted."""
    wide = model(16, 8, 128, 1024)
    assert plan(wide, rope_dim=0, kv_rank=128).layers[0].kv_lora_rank == 1024
    assert plan(wide, keep=1.0).layers[0].kv_lora_rank == 1024


def test_another_dtype_halves_the_bytes_after_only() -> None:
    facts = SMOLLM.model_copy(update={"dtype": "float32", "kv_bytes_per_token": 30 * 384 * 4})
    found = plan(facts, dtype="bfloat16")
    assert found.kv_bytes_per_token_before == 30 * 384 * 4
    assert found.kv_bytes_per_token_after == 30 * 120 * 2


def test_cache_size_is_bytes_times_context_times_batch() -> None:
    assert plan(SMOLLM).cache_bytes_at(2048, 4) == (23_040 * 2048 * 4, 7_200 * 2048 * 4)


BLOCKED: Mapping[str, tuple[dict[str, Any], str, str]] = {
    "too little": ({"keep": 0.05}, "keep", "leaves no room for a latent beside 8 rotary dims"),
    "rope_dim alone": ({"rope_dim": 8}, "kv_rank", "kv_rank is not set"),
    "kv_rank alone": ({"kv_rank": 8}, "rope_dim", "rope_dim is not set"),
    "rope_dim too large": ({"rope_dim": 66, "kv_rank": 8}, "rope_dim", "rope_dim 66 is more than the head"),
    "kv_rank too large": (
        {"rope_dim": 8, "kv_rank": 200},
        "kv_rank",
        "kv_rank 200 is more than the full rank",
    ),
}


@pytest.mark.parametrize("case", BLOCKED)
def test_a_blocked_plan_says_what_where_and_how_to_fix(case: str) -> None:
    fields, field, message = BLOCKED[case]
    found = plan(SMOLLM, **fields)
    (problem,) = found.problems
    assert message in problem.message
    assert problem.field == field
    assert problem.hint
    assert len(found.layers) == 30  # a blocked plan still prints: the form shows it while one drags
    with pytest.raises(PlanError) as caught:
        found.raise_if_blocked()
    assert caught.value.field == field


def test_no_budget_at_all_is_refused() -> None:
    (problem,) = make_plan(JobSpec(keep=None), SMOLLM).problems
    assert problem.field == "keep"
    assert problem.message
    assert problem.hint


def test_split_of_one_number_is_refused() -> None:
    (problem,) = plan(model(4, 1, 16, 64), "split", rope_dim=2, kv_rank=1).problems
    assert problem.field == "kv_rank"
    assert problem.message
    assert problem.hint


@given(shape=SHAPES, form=FORMS, rope=st.integers(0, 32), rank=st.integers(1, 400))
def test_the_hint_of_a_rank_that_is_too_large_leads_to_a_plan(
    shape: tuple[int, int, int, int], form: str, rope: int, rank: int
) -> None:
    group, kv_heads, pairs, hidden = shape
    facts = model(group * kv_heads, kv_heads, 2 * pairs, hidden)
    fields = {"rope_dim": 2 * min(rope, pairs), "kv_rank": rank}
    blocked = plan(facts, form, **fields)
    assume(blocked.problems and blocked.problems[0].field == "kv_rank")
    said = re.search(r"choose (\d+) or less", blocked.problems[0].hint)
    assume(said is not None)
    assert said is not None
    assert not plan(facts, form, **(fields | {"kv_rank": int(said.group(1))})).problems


def test_problems_of_the_model_stay_in_the_plan(facts: Callable[..., ModelFacts], published: Any) -> None:
    sliding = facts(published["small"] | {"sliding_window": 128})
    found = plan(sliding, keep=0.01)
    assert [problem.field for problem in found.problems] == ["model", "keep"]


def test_the_achieved_keep_is_of_bytes() -> None:
    """float32 weights of a bfloat16 model double every cached number, so that keep 1 becomes 2."""
    assert plan(SMOLLM, keep=1.0).keep == 1
    assert plan(SMOLLM, keep=1.0, dtype="float32").keep == 2


def test_a_start_behind_the_last_pair_is_a_problem() -> None:
    """A head of 64 has 32 pairs; what wraps around would not be what was asked for."""
    for start, count in ((31, 0), (32, 1)):
        recipe = {"rope_select": "uniform", "rope_select_start": start}
        problems = make_plan(spec_from_preset("mha2mla", recipe=recipe), SMOLLM).problems
        assert [one.field for one in problems] == ["recipe.rope_select_start"] * count
