# SPDX-License-Identifier: Apache-2.0
"""The budget of weights in the form, the card, the metric tables and the verdict."""

from pathlib import Path
from typing import Any

import pytest

from app.services.compare import compare_jobs
from app.services.copy_as import as_command, as_yaml
from app.services.estimate import estimate
from app.services.recipes import read_recipe
from app.services.requests import read_request
from app.services.savings import linear_savings
from app.services.tuning import LossTarget, keep_for
from app.services.verdict import verdict
from app.services.workbench import Workbench
from app.ui.components.comparison import metric_table
from app.ui.components.cost import cost_card
from app.ui.components.results import by_name, quality_table, summary
from app.ui.components.spec import spec_list
from app.ui.form import FIELDS, Form, initial, of_preset, of_spec, offered_presets
from app.ui.format import count, flops
from app.ui.pages.new_notes import notes
from core.decode_cost import decode_flops
from core.errors import SpecError
from core.events import Metric
from core.facts import read_facts
from core.planning import make_plan
from core.presets import spec_from_preset
from core.recipe import OF_WEIGHTS
from core.store.artefacts import describe
from tests.app.conftest import events, finish_job
from tests.families.tiny import make_family

BEFORE, AFTER = 1_000_000, 799_000


def form(**changes: Any) -> Form:
    return Form.of([(initial() | changes)[name] for name in FIELDS])


def test_it_is_off_until_it_is_asked_for_and_a_preset_may_ask() -> None:
    assert read_request(form().request).weights_keep is None
    assert read_request(form(weights_keep=60).request).weights_keep is None
    assert read_request(form(has_weights=True, weights_keep=60).request).weights_keep == 0.6
    asked = read_request(form(**of_preset("latentllm")).request)
    assert asked == spec_from_preset("latentllm", model="demo")
    assert "latentllm" in offered_presets()
    taken_back = form(**of_preset("latentllm") | {"has_weights": False}).request
    assert read_request(taken_back).weights_keep is None
    assert read_request({"preset": "latentllm", "weights_keep": None}).weights_keep is None
    idle = {"has_weights": False, "junction": "left", "sparse_share": 0.1}
    assert read_request(form(**idle).request) == read_request(form().request)
    # what has no effect is not named as a change
    assert form(junction="left").changed == []
    assert form(junction="left", has_weights=True).changed == ["junction"]


@pytest.mark.parametrize("keep", [None, 0.8, 0.3333])
def test_a_clone_and_a_recipe_keep_it_exactly(keep: float | None) -> None:
    """A slider has steps: a budget between two of them stays until somebody moves it."""
    recipe = {} if keep is None else {"junction": "left"}
    spec = spec_from_preset("quality", model="demo", weights_keep=keep, recipe=recipe)
    values = of_spec(spec, initial())
    filled = Form.of([values[name] for name in FIELDS])
    assert read_request(filled.request) == spec
    assert read_recipe(as_yaml(spec)) == spec
    assert ("--weights-keep" in as_command(spec)) == (keep is not None)
    moved = filled.with_values(has_weights=True, weights_keep=55.0)
    assert read_request(moved.request).weights_keep == 0.55
    let_go = filled.with_values(has_weights=False)
    # what only a budget of weights can mean goes with it
    assert read_request(let_go.request) == spec_from_preset("quality", model="demo")


def test_the_card_shows_what_the_plan_says_and_predicts_nothing(
    bench: Workbench, tiny_checkpoint: Path
) -> None:
    request = {"model": str(tiny_checkpoint), "preset": "quality", "keep": 0.5, "weights_keep": 0.8}
    found = estimate(bench, request, 1024, 1)
    assert found.plan is not None
    assert 0.75 < found.plan.linears_after / found.plan.linears_before <= 0.8
    card = cost_card(found)
    assert "Linear layers, parameters" in card
    assert f"{100 * (1 - found.plan.linears_after / found.plan.linears_before):.1f}" in card
    assert "not what smaller weights do" in card
    # what the linear layers compute less is in the FLOPs of decoding
    alone = estimate(bench, request | {"weights_keep": None}, 1024, 1)
    assert found.decode_flops_after < alone.decode_flops_after
    assert "Linear layers, parameters" not in cost_card(alone)


def test_a_family_that_cannot_be_factored_is_refused_beside_the_control(
    bench: Workbench, tmp_path: Path
) -> None:
    request = {"model": str(make_family("gpt2", tmp_path / "gpt2")), "preset": "quality", "weights_keep": 0.8}
    found = estimate(bench, request, 1024, 1)
    (said,) = notes(form(has_weights=True), found, ["weights_keep"])
    assert "linear layers of GPT-2 models cannot be factored" in said
    assert "leave weights_keep empty" in said


def test_a_loss_cannot_be_aimed_at_while_it_is_set(bench: Workbench, tiny_checkpoint: Path) -> None:
    request = {"model": str(tiny_checkpoint), "preset": "quality", "weights_keep": 0.8}
    with pytest.raises(SpecError, match="weights_keep"):
        keep_for(bench, request, LossTarget(percent=5))


def test_a_finished_job_says_what_was_saved_and_where_that_is_from(bench: Workbench) -> None:
    plain, smaller = finish_job(bench, {"a": b"1"}), finished_smaller(bench)
    metrics = by_name(bench.store.metrics(smaller))
    table = quality_table(metrics)
    assert f"<td>{count(BEFORE)}</td><td>{count(AFTER)}</td>" in table
    assert f"<td>{flops(2 * BEFORE)}</td><td>{flops(2 * AFTER)}</td>" in table
    row = table[table.index("linear layers, per token") :].partition("</tr>")[0]
    assert "calculated" in row
    assert "−20.1" in summary(metrics)
    assert "−10.0" in summary(metrics)
    assert "FLOPs per token at 512 tokens" in summary(metrics)
    assert f"<td>{flops(2_000_000)}</td><td>{flops(1_800_000)}</td>" in table
    assert "20 % of the linear layers" in verdict(bench.store.get(smaller).metrics)
    assert linear_savings(bench.store.get(plain).metrics) is None
    assert "linear layers" not in quality_table(by_name(bench.store.metrics(plain)))
    compared = compare_jobs(bench, [plain, smaller])
    rows = {row.name: row for row in compared.metrics}
    assert rows["linear_parameters_after"].values == (None, AFTER)
    assert rows["linear_flops_after"].values == (None, 2 * AFTER)
    assert rows["linear_flops_after"].source == "calculated"
    assert flops(2 * BEFORE) in metric_table(compared)
    assert {"weights_keep"} <= {row.path for row in compared.specs}
    assert "keep 80" in spec_list(bench.store.get(smaller).spec)
    assert "Junction" in spec_list(bench.store.get(smaller).spec)
    assert "Junction" not in spec_list(bench.store.get(plain).spec)


def test_the_flops_of_the_record_are_those_of_the_plan(tiny_checkpoint: Path) -> None:
    """Two per number and token: what decoding computes less is what the linear layers lost."""
    spec = spec_from_preset("fast", model=str(tiny_checkpoint), keep=0.5, weights_keep=0.7)
    facts = read_facts(str(tiny_checkpoint))
    plan = make_plan(spec, facts)
    saved = sum(layer.linears_saved for layer in plan.layers)
    assert decode_flops(facts, plan.whole, 100)[1] - decode_flops(facts, plan, 100)[1] >= 2 * saved > 0
    assert set(OF_WEIGHTS) <= set(initial())


def finished_smaller(bench: Workbench) -> str:
    """A job with both budgets that went its whole way through the record."""
    job = bench.store.submit(spec_from_preset("quality", model="demo", weights_keep=0.8))
    bench.store.claim(job.id, "worker", 1000)
    numbers = {"linear_parameters_before": BEFORE, "linear_parameters_after": AFTER}
    numbers |= {"decode_flops_before": 2e6, "decode_flops_after": 1.8e6, "decode_flops_context": 512}
    found = [Metric(name=name, value=value, source="calculated") for name, value in numbers.items()]
    for event in [*events(), *found]:
        assert bench.store.record(job.id, "worker", event)
    folder = bench.result_folder(job.id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a").write_bytes(b"1")
    assert bench.store.enter_verifying(job.id, "worker")
    assert bench.store.finish(job.id, "worker", describe(folder), 1_000_000)
    return job.id
