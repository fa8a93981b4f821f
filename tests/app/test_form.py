# SPDX-License-Identifier: Apache-2.0
"""A form filled from a spec makes that spec again, and a box that is touched changes its own field."""

import json

from hypothesis import given
from hypothesis import strategies as st

from app.services.requests import read_request
from app.services.spec_diff import diff_specs
from app.ui.form import BASE, FIELDS, Form, initial, of_spec, remembered
from app.ui.form_base import NO_BOX, without_box
from core.presets import PRESETS
from core.spec import Calibration, Evaluation, JobSpec, Recipe
from tests.app.specs import specs


def form_of(spec: JobSpec, **touched: object) -> Form:
    """As the page does it: through the boxes in their order, and through the memory of the browser."""
    values = of_spec(spec, initial()) | touched
    kept = remembered(json.loads(json.dumps(values)))
    return Form.of([kept[name] for name in FIELDS])


@given(spec=specs())
def test_a_filled_form_makes_the_same_request(spec: JobSpec) -> None:
    """Whatever the boxes can show of it: a slider has steps, and half of the fields have no box."""
    assert read_request(form_of(spec).request) == spec


@given(spec=specs(), tokens=st.integers(64, 10_000))
def test_a_touched_box_changes_its_own_field_only(spec: JobSpec, tokens: int) -> None:
    changes = diff_specs(spec, read_request(form_of(spec, calibration_tokens=tokens).request))
    assert {one.path for one in changes} <= {"calibration.tokens"}
    assert all(one.after == tokens for one in changes)


def test_what_belongs_to_one_model_does_not_follow_to_another() -> None:
    spec = JobSpec(model="owner/name", revision="abc", keep=0.2, device="cpu")
    found = read_request(form_of(spec, model="demo").request)
    assert (found.model, found.revision, found.keep, found.device) == ("demo", None, 0.2, "cpu")


def test_the_slider_wins_over_the_number_it_stands_for() -> None:
    spec = JobSpec(keep=0.3333)
    assert form_of(spec).values["keep"] == 33.25
    assert read_request(form_of(spec, keep=33.5).request).keep == 0.335


def test_a_cleared_rank_gives_the_budget_back_to_the_slider() -> None:
    spec = JobSpec(keep=None, rope_dim=16, kv_rank=8, recipe=Recipe())
    assert read_request(form_of(spec, kv_rank=None, rope_dim=None, keep=40.0).request).keep == 0.4


def test_the_measurement_can_be_skipped_and_asked_for_again() -> None:
    assert read_request(form_of(JobSpec(), evaluation_text="none").request).evaluation is None
    spec = JobSpec(evaluation=None)
    assert read_request(form_of(spec, evaluation_text="news").request).evaluation == Evaluation(text="news")
    wide = JobSpec(evaluation=Evaluation(windows=99))
    assert read_request(form_of(wide, evaluation_text="news").request).evaluation == Evaluation(
        text="news", windows=99
    )


def test_a_preset_chosen_afterwards_brings_its_recipe() -> None:
    spec = JobSpec(preset="mha2mla-81", recipe=PRESETS["mha2mla-81"].recipe, calibration=Calibration(seed=5))
    fast = PRESETS["fast"]
    chosen = {"preset": "fast", "keep": fast.keep * 100} | fast.recipe.model_dump()
    found = read_request(form_of(spec, **chosen).request)
    assert (found.preset, found.recipe, found.calibration.seed) == ("fast", fast.recipe, 5)


def test_a_memory_that_cannot_be_used_is_forgotten() -> None:
    assert remembered({**initial(), BASE: {"spec": 3}}) == initial()
    assert remembered({**initial(), "keep": 50}) == initial() | {"keep": 50}


def test_every_field_has_a_box_or_is_named_when_it_is_set() -> None:
    """Nothing that shapes a job is both unseen and unsaid; a new field of a JobSpec has to choose."""
    fields = JobSpec().model_dump()
    parts = {name for name, value in fields.items() if isinstance(value, dict)}
    paths = {name for name in fields if name not in parts}
    paths |= {f"{part}.{name}" for part in parts for name in fields[part]}
    boxes = {"model", "preset", "keep", "weights_keep", "rope_dim", "kv_rank", "layer_ranks", "rope_pairs"}
    boxes |= {f"calibration.{name}" for name in ("text", "tokens", "fisher_tokens")} | {"evaluation.text"}
    boxes |= {f"recipe.{name}" for name in Recipe.model_fields}
    # the form makes conversions only
    assert paths == boxes | NO_BOX | {"kind", "heal", "evaluate"}


def test_an_ordinary_request_hides_nothing() -> None:
    assert without_box(JobSpec()) == []
    assert [one.path for one in without_box(JobSpec(dtype="float32", evaluation=None))] == ["dtype"]
