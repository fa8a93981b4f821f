# SPDX-License-Identifier: Apache-2.0
"""The time of a profile job is foreseen, and foresees that of others, unless it found its work done."""

from pathlib import Path

import pytest

from app.services.duration import predicted_seconds
from app.services.workbench import Workbench
from core.events import Metric
from core.facts import ModelFacts
from core.presets import spec_from_preset
from core.spec import JobSpec
from tests.app.conftest import finish_job


@pytest.fixture
def facts(bench: Workbench, tiny_checkpoint: Path) -> ModelFacts:
    return bench.facts.read(str(tiny_checkpoint), None, bench.settings)


def spec_of(facts: ModelFacts, kind: str) -> JobSpec:
    spec = spec_from_preset("fast", model=facts.folder, kind=kind)
    return spec.model_copy(update={"evaluation": None})


def test_a_profile_takes_longer_than_the_conversion_it_spares_and_less_than_ten(
    bench: Workbench, facts: ModelFacts
) -> None:
    """It calibrates as a conversion does, and tries both presets at eight budgets."""
    finish_job(bench, {"config.json": b"{}"}, spec_of(facts, "convert"), seconds=200.0)
    conversion, profile = (
        predicted_seconds(bench, spec_of(facts, kind), facts) for kind in ("convert", "profile")
    )
    assert conversion == pytest.approx(200.0)
    assert profile is not None
    assert conversion < profile < 10 * conversion


def test_a_profile_foresees_the_next_job(bench: Workbench, facts: ModelFacts) -> None:
    finish_job(bench, {"profile.json": b"{}"}, spec_of(facts, "profile"), seconds=300.0)
    assert predicted_seconds(bench, spec_of(facts, "profile"), facts) == pytest.approx(300.0)


def test_a_profile_that_was_there_foresees_nothing(bench: Workbench, facts: ModelFacts) -> None:
    """It took no time because nothing was done."""
    job = bench.store.submit(spec_of(facts, "profile"))
    bench.store.claim(job.id, "worker", 1000)
    for name, value in (("calibrated_tokens", 0.0), ("seconds", 3.0)):
        bench.store.record(job.id, "worker", Metric(name=name, value=value))
    assert bench.store.enter_verifying(job.id, "worker")
    assert bench.store.finish(job.id, "worker", (), 1)
    assert predicted_seconds(bench, spec_of(facts, "convert"), facts) is None
