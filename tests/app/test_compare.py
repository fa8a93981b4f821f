# SPDX-License-Identifier: Apache-2.0
"""Jobs side by side: only differences are rows, the best is the best for its direction."""

import csv
import io

import pytest
from fastapi.testclient import TestClient

from app.services.compare import MOST, best_of, compare_jobs
from app.services.workbench import Workbench
from app.ui.components.comparison import metric_table, spec_table
from core.errors import SpecError
from core.presets import spec_from_preset
from core.spec import Calibration, Evaluation
from tests.app.conftest import LAYERS, finish_job

FILES = {"config.json": b"{}"}


@pytest.fixture
def pair(bench: Workbench) -> list[str]:
    """Two jobs that differ in preset and time; all quality figures are the same."""
    specs = [spec_from_preset("mha2mla", keep=0.3125), spec_from_preset("transmla", keep=0.3125)]
    return [finish_job(bench, FILES, spec, seconds) for spec, seconds in zip(specs, (12.0, 9.0), strict=True)]


def test_the_best_is_the_least_loss_and_the_most_agreement() -> None:
    assert best_of([1.5, 1.2, None, 1.2], "less") == (1, 3)
    assert best_of([0.5, 0.7], "more") == (1,)
    assert best_of([1.0, 1.0], "less") == (), "nothing is better than its equal"
    assert best_of([1.0, None], "less") == (), "one known value has nobody to beat"
    assert best_of([1.0, 2.0], None) == ()


def test_only_what_differs_is_shown_of_the_specs(bench: Workbench, pair: list[str]) -> None:
    found = compare_jobs(bench, pair)
    rows = {row.path: row.values for row in found.specs}
    assert rows["preset"] == ("mha2mla", "transmla")
    assert rows["recipe.rope_mix"] == ("none", "roro")
    assert "keep" not in rows
    assert "model" not in rows
    # the first job is what others are held against: grey, and so is whatever equals it
    assert '<td class="base">mha2mla</td><td>transmla</td>' in spec_table(found)


def test_the_faster_job_is_marked_and_equal_figures_are_not(bench: Workbench, pair: list[str]) -> None:
    found = compare_jobs(bench, pair)
    best = {row.name: row.best for row in found.metrics}
    assert best["seconds"] == (1,)
    assert best["perplexity_ratio"] == ()
    assert metric_table(found).count('<td class="best"') == 1


def test_quality_on_another_text_is_shown_and_not_ranked(bench: Workbench, pair: list[str]) -> None:
    """Perplexities of different texts say nothing about each other; seconds still do."""
    other = spec_from_preset("mha2mla", evaluation=Evaluation(text="news"), calibration=Calibration())
    found = compare_jobs(bench, [pair[0], finish_job(bench, FILES, other, 30.0)])
    assert not found.is_same_text
    assert all(row.best == () for row in found.metrics if row.name.startswith(("perplexity", "kl", "top1")))
    assert next(row.best for row in found.metrics if row.name == "seconds") == (0,)
    assert "not ranked" in metric_table(found)


def test_a_job_without_result_or_one_too_many_is_refused(bench: Workbench, running_job: str) -> None:
    with pytest.raises(SpecError, match="nothing to compare"):
        compare_jobs(bench, [running_job])
    with pytest.raises(SpecError, match="7 jobs"):
        compare_jobs(bench, [f"job{index}" for index in range(MOST + 1)])


def test_the_api_compares_and_gives_the_layers_as_a_table(client: TestClient, pair: list[str]) -> None:
    asked = ",".join(pair)
    body = client.get(f"/api/v1/compare?jobs={asked}").json()
    assert [job["id"] for job in body["jobs"]] == pair
    answer = client.get(f"/api/v1/compare/figures/layers.csv?jobs={asked}")
    assert answer.headers["content-disposition"] == 'attachment; filename="compare-layers.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 2 * LAYERS
    assert {row["job"] for row in rows} == set(pair)
    assert float(rows[3]["key_error"]) == pytest.approx(0.3)
    assert client.get("/api/v1/compare?jobs=nosuchjob").status_code == 404
    assert client.get("/api/v1/compare").json()["jobs"] == []
