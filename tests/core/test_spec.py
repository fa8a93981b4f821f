# SPDX-License-Identifier: Apache-2.0
"""A JobSpec takes what can be done and refuses everything else by name."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.errors import SpecError
from core.presets import DEFAULT_PRESET, PRESETS, find_preset, spec_from_preset
from core.recipe import OF_WEIGHTS
from core.spec import Calibration, Evaluation, JobSpec, Recipe, parse_spec
from core.stages import STAGES

READY = [(stage, choice) for stage, known in STAGES.items() for choice in known.ready]


@pytest.mark.parametrize(("stage", "choice"), READY)
def test_a_ready_choice_is_taken(stage: str, choice: str) -> None:
    # mixed heads have no 2-norm of their own, which is the default of rope_select
    beside = {"rope_select": "logit-damage"} if stage == "rope_mix" else {}
    found = parse_spec({"recipe": beside | {stage: choice}, "weights_keep": 0.8})
    assert found.recipe.model_dump()[stage] == choice


CONTRADICTIONS = {
    "pre-rope drops no rotation": (
        {"layout": "pre-rope", "rope_mix": "complex", "rope_select": "high"},
        "layout",
        "nothing to select, mix or replace",
        "rope_mix none",
    ),
    "pre-rope has no constant to fit": (
        {"layout": "pre-rope", "rope_derotate": "expected"},
        "layout",
        "nothing to select, mix or replace",
        "rope_derotate identity",
    ),
    "pre-rope has no pairs to choose": (
        {"layout": "pre-rope", "rope_select": "high"},
        "layout",
        "nothing to select, mix or replace",
        "leave rope_select 2-norm",
    ),
    "folding without mixing": ({"freqfold": 4}, "freqfold", "no meaning without rope_mix", "rope_mix roro"),
    "2-norms of mixed heads": (
        {"rope_mix": "roro", "rope_select": "2-norm"},
        "rope_select",
        "looks at single heads",
        "logit-damage",
    ),
    "weighing keys that share nothing": (
        {"factor_form": "split", "key_weight": 2.0},
        "key_weight",
        "a latent each",
        "factor_form joint",
    ),
    "weighing keys that are measured in scores": (
        {"factor_form": "joint-qk-vo", "key_weight": 2.0},
        "key_weight",
        "a latent each",
        "factor_form joint",
    ),
    "a start of what is not uniform": (
        {"rope_select": "high", "rope_select_start": 3},
        "rope_select_start",
        "no meaning with 'high'",
        "uniform",
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_choices_that_contradict_each_other_are_refused_with_the_way_out(case: str) -> None:
    recipe, field, message, hint = CONTRADICTIONS[case]
    with pytest.raises(SpecError) as caught:
        parse_spec({"recipe": recipe})
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.field == f"recipe.{field}"


def test_a_recipe_that_weighs_by_the_loss_needs_its_gradients() -> None:
    """Without tokens for the backward pass it is refused at once, not after the forward pass."""
    no_gradients = {"calibration": {"fisher_tokens": 0}}
    for needs in (
        {"factor_input": "root-fisher"},
        {"factor_output": "fisher"},
        {"rope_derotate": "expected"},
    ):
        with pytest.raises(SpecError, match="backward pass") as caught:
            parse_spec({"recipe": needs} | no_gradients)
        assert caught.value.field == "calibration.fisher_tokens"
        assert caught.value.hint
    assert not parse_spec(no_gradients).recipe.needs_fisher


@pytest.mark.parametrize("stage", STAGES)
def test_an_invented_choice_is_refused_by_name(stage: str) -> None:
    with pytest.raises(SpecError, match="'banana' is not a known choice"):
        parse_spec({"recipe": {stage: "banana"}})


def test_every_stage_is_a_field_of_the_recipe() -> None:
    assert set(STAGES) == set(Recipe.model_fields) - {
        "rope_select_start",
        "freqfold",
        "key_weight",
        "sparse_share",
        "factor_bits",
        "latent_bits",
        "mean_bias",
        "refit_output",
    }


def test_the_bits_of_factors_may_come_from_a_command_line() -> None:
    """There every value is text."""
    assert parse_spec({"weights_keep": 0.8, "recipe": {"factor_bits": "8"}}).recipe.factor_bits == 8
    with pytest.raises(SpecError) as caught:
        parse_spec({"recipe": {"factor_bits": "4"}})
    assert caught.value.field == "recipe.factor_bits"


@pytest.mark.parametrize("choice", [{"junction": "left"}, {"sparse_share": 0.1}, {"factor_bits": 8}])
def test_a_choice_for_weights_that_stay_is_refused(choice: dict[str, Any]) -> None:
    """It would have no effect, silently; with a budget of weights, or as usual, it may be said."""
    with pytest.raises(SpecError, match="has no meaning without weights_keep") as caught:
        parse_spec({"recipe": choice})
    assert caught.value.field == f"recipe.{next(iter(choice))}"
    assert "set weights_keep, such as 0.8" in caught.value.hint
    assert parse_spec({"recipe": choice, "weights_keep": 0.8})
    assert parse_spec({"recipe": {name: getattr(Recipe(), name) for name in OF_WEIGHTS}})
    assert not any(preset.recipe.of_weights_changed for preset in PRESETS.values() if not preset.weights_keep)


@pytest.mark.parametrize(
    "data",
    [
        {"kep": 0.5},
        {"recipe": {"rope_selct": "high"}},
        {"calibration": {"path": "x"}},
        {"evaluation": {"stride": 2}},
    ],
)
def test_an_unknown_field_is_refused_and_named(data: dict[str, object]) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(data)
    name = next(iter(data))
    inner = data[name]
    assert caught.value.field is not None
    assert caught.value.field.endswith(next(iter(inner)) if isinstance(inner, dict) else name)
    assert caught.value.hint


WRONG = {
    "keep": [0, -0.1, 1.5, 2, float("nan"), float("inf"), "much"],
    "rope_dim": [-2, 3, 7, "8px"],
    "kv_rank": [0, -1, 1.5],
    "dtype": ["int8", "fp32", ""],
    "device": ["tpu", "cuda:0"],
    "model": ["", None],
    "shard_bytes": [0, 10],
    "kind": ["distil"],
}


@pytest.mark.parametrize(
    ("field", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_value_out_of_range_is_refused_with_a_hint(field: str, value: object) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec({field: value})
    assert caught.value.field == field
    assert caught.value.hint


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("calibration", "tokens", 0),
        ("calibration", "context", 2),
        ("evaluation", "windows", 0),
        ("evaluation", "context", 1_000_000),
        ("recipe", "rope_select_start", -1),
        ("recipe", "freqfold", -1),
        ("calibration", "shrinkage", 2),
    ],
)
def test_a_nested_value_out_of_range_names_its_path(part: str, field: str, value: int) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec({part: {field: value}})
    assert caught.value.field == f"{part}.{field}"


SPECS = st.builds(
    JobSpec,
    model=st.text(min_size=1, max_size=30),
    revision=st.none() | st.text(max_size=10),
    keep=st.none() | st.floats(1e-6, 1),
    rope_dim=st.none() | st.integers(0, 64).map(lambda pairs: 2 * pairs),
    kv_rank=st.none() | st.integers(1, 512),
    recipe=st.builds(
        Recipe,
        rope_select=st.sampled_from(sorted(STAGES["rope_select"].ready)),
        factor_form=st.sampled_from(sorted(STAGES["factor_form"].ready)),
    )
    | st.builds(Recipe, rope_select=st.just("uniform"), rope_select_start=st.integers(0, 100))
    | st.sampled_from([preset.recipe for preset in PRESETS.values()]),
    calibration=st.builds(Calibration, text=st.text(max_size=20), tokens=st.integers(64, 10_000_000)),
    evaluation=st.none() | st.builds(Evaluation, windows=st.integers(1, 1000)),
)


@given(spec=SPECS)
def test_json_gives_back_the_same_spec(spec: JobSpec) -> None:
    """The database, the REST API and conversion.json all carry a spec as JSON."""
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
    assert parse_spec(spec.model_dump(mode="json")) == spec


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        JobSpec().keep = 0.5  # type: ignore[misc]


def test_a_preset_is_a_recipe_and_a_budget() -> None:
    assert next(iter(PRESETS)) == DEFAULT_PRESET == "quality"
    assert {"fast", "transmla", "mha2mla"} < set(PRESETS)
    assert [PRESETS[name].keep for name in ("mha2mla", "mha2mla-81", "mha2mla-87")] == [0.3125, 0.1875, 0.125]
    for name, preset in PRESETS.items():
        spec = spec_from_preset(name)
        assert (spec.preset, spec.keep, spec.recipe) == (name, preset.keep, preset.recipe)


def test_what_is_given_wins_over_the_preset() -> None:
    spec = spec_from_preset("mha2mla", keep=0.5, recipe={"rope_select": "low"}, revision=None)
    assert (spec.keep, spec.recipe.rope_select, spec.recipe.factor_form) == (0.5, "low", "joint")


def test_an_unknown_preset_lists_what_there_is() -> None:
    with pytest.raises(SpecError) as caught:
        find_preset("transmlb")
    assert all(name in caught.value.hint for name in PRESETS)
    assert caught.value.field == "preset"


@pytest.mark.parametrize(
    ("form", "allocate", "needed"),
    [("joint", "uniform", True), ("local", "loss-aware", True), ("local", "uniform", False)],
)
def test_weights_are_weighed_by_the_loss_only_with_a_backward_pass(
    form: str, allocate: str, needed: bool
) -> None:
    recipe = {"linear_form": form, "linear_allocate": allocate}
    assert parse_spec({"weights_keep": 0.8, "recipe": recipe}).needs_fisher is needed
    assert not parse_spec({}).needs_fisher


@pytest.mark.parametrize(
    ("said", "makes_model"),
    [
        ({}, True),
        ({"kind": "profile"}, False),
        ({"kind": "heal", "heal": {"source": "x"}}, True),
        ({"kind": "evaluate", "evaluate": {"conversions": ["x"]}}, False),
    ],
)
def test_only_conversions_and_healings_make_a_model(said: dict[str, Any], makes_model: bool) -> None:
    """What makes none is neither pushed, compared nor healed."""
    assert parse_spec(said).makes_model == makes_model
