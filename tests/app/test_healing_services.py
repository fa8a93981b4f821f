# SPDX-License-Identifier: Apache-2.0
"""A healing from the page's form to the queue: what it asks, what it takes, what is refused before it."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.main import get_command

from app.cli.main import cli
from app.services.copy_as import as_command
from app.services.duration import FIXED_SECONDS
from app.services.healing import asked_before, estimate_healing, healing_request
from app.services.healing_source import job_healed
from app.services.pareto import pareto_points
from app.services.requests import find_job, retry, submit
from app.services.text_names import friendly
from app.services.workbench import Workbench
from app.ui.components.healing_result import before_the_curve, healing_summary
from app.ui.components.next_steps import next_steps
from app.ui.components.progress import job_head, recipe_name
from app.ui.components.results import by_name
from app.ui.healing_form import FIELDS, MORE, amount_of, asked_of, initial, of_spec, slot_of
from core.events import Metric, StageStarted
from core.fixes import less_memory
from core.presets import spec_from_preset
from core.spec import Evaluation, Healing
from tests.app.conftest import finish_job

FILES = {"config.json": b"{}", "conversion.json": b"{}"}


@pytest.fixture
def converted(bench: Workbench, tiny_checkpoint: Path) -> str:
    """A conversion that is done, with a folder that can be healed."""
    spec = spec_from_preset("fast", model=str(tiny_checkpoint))
    return finish_job(bench, FILES, spec.model_copy(update={"evaluation": Evaluation(windows=3)}))


def entered(**changes: Any) -> list[Any]:
    values = initial() | changes
    return [values[name] for name in FIELDS]


def asked(bench: Workbench, job: str, **changes: Any) -> dict[str, Any]:
    return healing_request(find_job(bench, job), *asked_of(entered(**changes)))


def healed(bench: Workbench, converted: str, **changes: Any) -> str:
    """A healing that is done, with its figures."""
    job = submit(bench, asked(bench, converted, **changes)).id
    bench.store.claim(job, "worker", 1000)
    for name, value in {
        "perplexity_ratio_before_healing": 1.62,
        "perplexity_ratio": 1.13,
        "kv_bytes_per_token_before": 320.0,
        "kv_bytes_per_token_measured": 100.0,
        "healing_tokens": 99_328.0,
        "healing_tokens_per_second": 150.0,
        "seconds": 700.0,
    }.items():
        bench.store.record(job, "worker", Metric(name=name, value=value))
    assert bench.store.enter_verifying(job, "worker")
    assert bench.store.finish(job, "worker", ())
    return job


def test_the_form_has_a_box_for_every_field_of_a_healing() -> None:
    """Nothing that the engine takes can only be said in JSON; each box has a place for its problem."""
    assert {*FIELDS} >= {*Healing.model_fields} - {"source"}
    assert {slot_of(f"heal.{name}") for name in Healing.model_fields} == {
        *("tokens", "text", "learning_rate", "trainable", "whole"),
        *MORE,
    }


def test_an_untouched_form_asks_for_the_usual_healing(bench: Workbench, converted: str) -> None:
    job = submit(bench, asked(bench, converted))
    source = bench.result_folder(converted).absolute()
    assert job.spec.heal == Healing(source=str(source))
    assert (job.spec.kind, job.parent_id, job_healed(bench.settings, job.spec)) == (
        "heal",
        converted,
        converted,
    )
    before = find_job(bench, converted).spec
    assert (job.spec.model, job.spec.recipe, job.spec.keep) == (before.model, before.recipe, before.keep)
    assert amount_of(job.spec.heal.tokens) == "usual"
    # what a person reads names the job, not a path of the server
    assert friendly(bench.settings, job.spec).heal == Healing(source=f"job:{converted}")


def test_a_cloned_healing_fills_the_form_that_asks_for_the_same(bench: Workbench, converted: str) -> None:
    changes = {"tokens": 20_000, "trainable": "lora", "repeat": True, "evaluation_text": "none"}
    job = submit(bench, asked(bench, converted, **changes))
    source, spec = asked_before(bench, job.id)
    form = of_spec(spec)
    assert source == converted
    assert submit(bench, asked(bench, source, **form)).spec == job.spec
    assert job.spec.evaluation is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tokens": 100}, "heal.tokens"),
        ({"text": "/no/such/text.txt"}, "heal.text"),
        ({"text": "upload:nobody"}, "heal.text"),
        ({"learning_rate": 2}, "heal.learning_rate"),
        ({"warmup": 1}, "heal.warmup"),
        ({"evaluation_text": "/no/such/text.txt"}, "evaluation.text"),
    ],
)
def test_what_cannot_work_is_said_beside_its_field(
    bench: Workbench, converted: str, changes: dict[str, Any], field: str
) -> None:
    found = estimate_healing(bench, asked(bench, converted, **changes))
    assert [one.field for one in found.problems] == [field]
    assert found.problems[0].hint
    assert slot_of(field) in {*MORE, *FIELDS, "evaluation"}


def test_rest_refuses_a_source_that_is_no_converted_model(
    client: TestClient, bench: Workbench, converted: str, tmp_path: Path
) -> None:
    body = asked(bench, converted)
    for source in (str(tmp_path), "/no/such/folder", "job:nobody"):
        answer = client.post("/api/v1/jobs", json=body | {"heal": {"source": source}})
        assert answer.status_code == 422
        assert answer.json()["field"] == "heal.source"
    assert bench.store.count() == 1
    accepted = client.post("/api/v1/jobs", json=body)
    assert accepted.status_code == 201
    assert accepted.json()["parent_id"] == converted


def test_the_time_of_a_healing_is_that_of_the_last_one_of_its_model(bench: Workbench, converted: str) -> None:
    """Before it, scaled from the conversion, and said to be an estimate."""
    first = estimate_healing(bench, asked(bench, converted)).time
    assert first is not None
    assert (first.speed_is, first.job) == ("estimated", None)
    job = healed(bench, converted)
    then = estimate_healing(bench, asked(bench, converted)).time
    assert then is not None
    assert (then.tokens_per_second, then.speed_is, then.job) == (150.0, "measured", job)
    # 97 steps of 1024 tokens, and less than as much again for the teacher and for looking
    training = 97 * 1024 / 150
    assert training + FIXED_SECONDS < then.seconds < 2 * training
    longer = estimate_healing(bench, asked(bench, converted, tokens=300_000)).time
    assert longer is not None
    assert 2 < longer.seconds / then.seconds < 3
    other = estimate_healing(bench, asked(bench, converted, top_k=0)).time
    assert other is not None
    # the teacher runs at each step: four forward passes instead of three
    assert (other.tokens_per_second, other.speed_is) == (pytest.approx(112.5), "estimated")


def test_a_copied_healing_is_the_same_healing(bench: Workbench, converted: str) -> None:
    job = submit(bench, asked(bench, converted, tokens=20_000, repeat=True, top_k=32))
    words = shlex.split(as_command(job.spec))
    command = get_command(cli).commands["heal"]  # type: ignore[attr-defined]
    said = command.make_context("heal", words[2:]).params
    assert words[:2] == ["mla-workbench", "heal"]
    assert (str(said["source"]), said["teacher"]) == (job.spec.heal and job.spec.heal.source, job.spec.model)
    assert (said["tokens"], said["changes"]) == (20_000, ["repeat=true", "top_k=32"])


def test_a_healed_model_is_named_and_judged_as_one(bench: Workbench, converted: str) -> None:
    job = find_job(bench, healed(bench, converted))
    assert recipe_name(job).endswith("healed 100k")
    words = healing_summary(by_name(bench.store.metrics(job.id)))
    for part in ("×1.62 →", "×1.13", "99\u202f328", "11\u202fmin 40\u202fs", "before it was healed"):
        assert part in words
    assert "needs healing" not in words
    links = next_steps(job, converted)
    assert f"/compare?jobs={converted},{job.id}" in links
    assert f"job:{converted},job:{job.id}" in links
    assert f"/heal?job={converted}" in next_steps(find_job(bench, converted))


def test_before_the_first_point_the_page_says_what_happens(bench: Workbench, converted: str) -> None:
    job = submit(bench, asked(bench, converted)).id
    bench.store.claim(job, "worker", 1000)
    bench.store.record(job, "worker", StageStarted(stage="teaching", total=396))
    words = before_the_curve(find_job(bench, job))
    assert "The original is asked" in words
    assert "0 of 396 windows" in words
    bench.store.request_cancel(job)
    assert "end of the current step" in job_head(find_job(bench, job), has_worker=True)


def test_a_healing_that_ran_out_of_memory_offers_what_takes_less(bench: Workbench, converted: str) -> None:
    """The step keeps its tokens: half the windows, twice as often. The retry heals the same model."""
    job = submit(bench, asked(bench, converted))
    fixes = less_memory(job.spec)
    labels = [fix.label for fix in fixes]
    assert labels == ["activations computed again", "2 windows at a time", "adapters (LoRA)"]
    bench.store.claim(job.id, "worker", 1000)
    bench.store.fail(job.id, "worker", "out of memory", "close other programs", fixes=fixes)
    again = retry(bench, job.id, 1).spec
    assert again.heal is not None
    assert job.spec.heal is not None
    assert (again.heal.source, again.heal.step_tokens) == (job.spec.heal.source, job.spec.heal.step_tokens)


def test_healing_and_conversion_stand_side_by_side(
    client: TestClient, bench: Workbench, converted: str
) -> None:
    """Of what was asked only that is shown which somebody chose."""
    job = healed(bench, converted, repeat=True)
    found = client.get("/api/v1/compare", params={"jobs": f"{converted},{job}"}).json()
    paths = [row["path"] for row in found["specs"]]
    assert paths == [
        "kind",
        *(f"heal.{name}" for name in ("text", "tokens", "repeat", "trainable", "learning_rate")),
        "evaluation.windows",
    ]
    model = find_job(bench, job).spec.model
    assert {one.job: one.healed_tokens for one in pareto_points(bench, model)} == {
        converted: None,
        job: 100_000,
    }
