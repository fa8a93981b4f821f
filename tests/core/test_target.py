# SPDX-License-Identifier: Apache-2.0
"""A target loss gives the smallest budget whose predicted loss is not above it."""

from pathlib import Path

import pytest

from core.curves import LayerCurves, RecipeCurves
from core.errors import SpecError
from core.facts import ModelFacts, read_facts
from core.loss_fit import LossFit
from core.presets import PRESETS
from core.profiles import Profile
from core.spec import JobSpec
from core.target import keep_for_loss


@pytest.fixture
def facts(tiny_checkpoint: Path) -> ModelFacts:
    return read_facts(str(tiny_checkpoint))


def profile_of(facts: ModelFacts) -> Profile:
    """A latent of rank r loses 1 - r/64 in each layer; KL is half of the sum over layers."""
    full = facts.kv_numbers_per_layer
    curves = LayerCurves(rope_dims=(0,), rope_lost=(0.0,), tail=((1.0, 0.0),))
    known = RecipeCurves(
        recipe=PRESETS["quality"].recipe,
        ranks=(0, full),
        layers=(curves,) * facts.layers,
        rope_weight=0.0,
        fit=LossFit(knots=((1.0, 0.5),), slope=1.0, spread=1.2),
        points=(),
    )
    return Profile(
        fingerprint="f",
        model=facts.name,
        text="t",
        tokens=1,
        fisher_windows=1,
        inv_freq=(),
        contribution=(),
        recipes=(known,),
    )


@pytest.mark.parametrize("most", [0.01, 0.3, 0.5, 1.0, 1.9])
def test_the_budget_is_the_smallest_that_is_good_enough(facts: ModelFacts, most: float) -> None:
    spec = JobSpec(recipe=PRESETS["quality"].recipe)
    full = facts.kv_numbers_per_layer
    numbers = round(keep_for_loss(spec, facts, profile_of(facts), most) * full)

    def loss(rank: int) -> float:
        return 0.5 * facts.layers * (1 - rank / full)

    assert loss(numbers) <= most < loss(numbers - 1)


def test_a_target_that_everything_meets_gives_the_smallest_plan(facts: ModelFacts) -> None:
    spec = JobSpec(recipe=PRESETS["quality"].recipe)
    assert keep_for_loss(spec, facts, profile_of(facts), 100.0) == 1 / facts.kv_numbers_per_layer


def test_without_a_profile_that_knows_the_recipe_it_is_refused(facts: ModelFacts) -> None:
    spec = JobSpec(recipe=PRESETS["transmla"].recipe)
    for profile in (None, profile_of(facts)):
        with pytest.raises(SpecError, match="no profile") as caught:
            keep_for_loss(spec, facts, profile, 0.1)
        assert "mla-workbench profile" in caught.value.hint


@pytest.mark.parametrize("most", [0.0, -1.0, float("nan"), float("inf")])
def test_a_target_must_be_a_loss(facts: ModelFacts, most: float) -> None:
    with pytest.raises(SpecError, match="max_loss must be above 0"):
        keep_for_loss(JobSpec(recipe=PRESETS["quality"].recipe), facts, profile_of(facts), most)


def test_no_loss_can_be_aimed_at_beside_a_budget_of_weights(facts: ModelFacts) -> None:
    """The profile knows the recipe, and still not what smaller weights lose: that is said, not left out."""
    spec = JobSpec(recipe=PRESETS["quality"].recipe, weights_keep=0.8)
    with pytest.raises(SpecError, match="while weights_keep is set") as refused:
        keep_for_loss(spec, facts, profile_of(facts), 0.5)
    assert "leave weights_keep empty" in refused.value.hint
