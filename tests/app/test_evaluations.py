# SPDX-License-Identifier: Apache-2.0
"""Evaluation jobs on the web side: refused early, stored whole, shown with intervals wherever it matters."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.services.compare import compare_jobs
from app.services.evaluations import measured_rows
from app.services.workbench import Workbench
from app.ui.components.comparison import metric_table
from app.ui.components.measured import evaluation_tables
from app.ui.components.spec import spec_list
from app.ui.format import ratio
from app.ui.pages import job_result
from core.events import Figure
from core.further.spec import Measurements
from core.spec import JobSpec
from tests.app.conftest import finish_job
from tests.app.evaluation_rows import retrieval_row, span, text_row

FILES = {"config.json": b"{}"}


@pytest.fixture
def conversions(bench: Workbench) -> list[str]:
    return [finish_job(bench, FILES) for _ in range(2)]


@pytest.fixture
def evaluation(bench: Workbench, conversions: list[str]) -> str:
    """A finished evaluation of both."""
    names = [f"job:{one}" for one in conversions]
    spec = JobSpec(kind="evaluate", evaluate=Measurements(conversions=tuple(names), retrieval=("multikey",)))
    apart = span(-0.2, 0.15) | {"p_value": 0.125}
    report = {
        "base": "demo",
        "conversions": names,
        "texts": [text_row(name, ratio) for name, ratio in zip(names, (1.1, 1.3), strict=True)],
        "retrieval": [
            retrieval_row("demo", 0.9),
            *(retrieval_row(name, 0.7, match_to_base=apart, choice_to_base=apart) for name in names),
        ],
        "harness": [],
    }
    job = finish_job(bench, {"evaluation.json": b"{}"}, spec)
    other = bench.store.submit(spec)
    bench.store.claim(other.id, "worker", 1000)
    assert bench.store.record(other.id, "worker", Figure(name="evaluation", data=report))
    assert bench.store.enter_verifying(other.id, "worker")
    assert bench.store.finish(other.id, "worker", [], 1)
    assert job != other.id
    return other.id


def test_an_evaluation_is_queued_as_asked(
    client: TestClient, bench: Workbench, tiny_checkpoint: Path
) -> None:
    """No plan is made of it; the folder of the original is stored whole."""
    asked = {"texts": ["python-docs"], "contexts": [64], "windows": 2, "retrieval": ["multikey"]}
    body = {"kind": "evaluate", "model": str(tiny_checkpoint), "evaluate": asked | {"essay": "python-docs"}}
    answer = client.post("/api/v1/jobs", json=body)
    assert answer.status_code == 201, answer.text
    stored = bench.store.get(answer.json()["id"]).spec
    assert stored.kind == "evaluate"
    assert stored.evaluate is not None
    assert stored.evaluate.retrieval == ("multikey",)
    assert "2 windows of 64 tokens" in spec_list(stored)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"conversions": ["job:nosuchjob2"]}, "models"),
        ({"conversions": ["/no/such/folder"]}, "evaluate.conversions"),
        ({"texts": []}, "evaluate.texts"),
        ({"texts": ["no-such-text"]}, "text"),
        ({"retrieval": ["no-such-task"]}, "evaluate.retrieval.0"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(
    asked: dict[str, Any], field: str, client: TestClient, bench: Workbench, tiny_checkpoint: Path
) -> None:
    body = {"kind": "evaluate", "model": str(tiny_checkpoint), "evaluate": asked}
    answer = client.post("/api/v1/jobs", json=body)
    assert answer.status_code in (404, 422), answer.text
    assert field in answer.text
    assert bench.store.count() == 0


def test_its_page_shows_every_row_with_sample_and_interval(bench: Workbench, evaluation: str) -> None:
    page = evaluation_tables(bench.store.figures(evaluation)["evaluation"])
    assert page.count("8 × 2") == 2
    assert page.count("20 × 1") == 3
    assert f"{ratio(1.1)} <small>{ratio(1.08)} to {ratio(1.12)}</small>" in page
    assert "-20.0 points <small>-35.0 to -5.0, p 0.12</small>" in page
    assert "measured" in page


def test_a_conversions_page_and_the_comparison_show_what_was_found_of_them(
    bench: Workbench, conversions: list[str], evaluation: str
) -> None:
    """Side by side on one sample, in the order of the jobs."""
    rows = measured_rows(bench, conversions)
    row = next(one for one in rows if one.figure == "perplexity_ratio")
    assert (row.about, row.sample) == ("news, 2,048 tokens", "8 windows, 16,376 tokens")
    assert [one and one.value for one in row.values] == [1.1, 1.3]
    assert compare_jobs(bench, conversions).measured == rows
    table = metric_table(compare_jobs(bench, conversions[::-1]))
    assert "Measured further" in table
    assert table.index(f"{ratio(1.3)} <small>") < table.index(f"{ratio(1.1)} <small>")
    job = bench.store.get(conversions[0])
    assert "multikey, 1,024 tokens" in job_result._measured(bench, job, {})


def test_what_was_never_measured_further_has_no_table(bench: Workbench, done_job: str) -> None:
    assert measured_rows(bench, [done_job]) == ()
    assert "Measured further" not in metric_table(compare_jobs(bench, [done_job]))
