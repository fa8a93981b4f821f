# SPDX-License-Identifier: Apache-2.0
"""The data of every plot can be taken away, and it is what was drawn."""

import csv
import io
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.services.figure_table import CONTEXTS, FigureTable
from app.services.workbench import Workbench
from core.spec import JobSpec
from tests.app.conftest import HEADS, LAYERS, PAIRS, finish_job


def test_a_table_survives_a_round_trip_through_csv() -> None:
    """Commas, quotes and nothing at all: what a spreadsheet reads is what was there."""
    table = FigureTable(name="t", columns=("text", "value"), rows=(('a,"b"', 1.5), ("c", None)))
    assert list(csv.reader(io.StringIO(table.as_csv()))) == [["text", "value"], ['a,"b"', "1.5"], ["c", ""]]
    assert table.as_records()[1] == {"text": "c", "value": None}


def test_rotary_pairs_of_a_job_as_csv_and_json(client: TestClient, done_job: str) -> None:
    """One row per layer, head and pair; head 0 keeps pairs 0 and 1, head 1 keeps 0 and 2."""
    address = f"/api/v1/jobs/{done_job}/figures/rope_contribution"
    rows = list(csv.DictReader(io.StringIO(client.get(f"{address}.csv").text)))
    assert len(rows) == LAYERS * HEADS * PAIRS
    kept = {(row["row"], row["pair"]) for row in rows if row["is_kept"] == "True"}
    assert kept == {("0", "0"), ("0", "1"), ("1", "0"), ("1", "2")}
    table = client.get(f"{address}.json").json()
    assert [str(cell) for cell in table["rows"][0]] == list(rows[0].values())


def test_cache_and_layers_of_a_job(client: TestClient, done_job: str) -> None:
    cache = client.get(f"/api/v1/jobs/{done_job}/figures/kv_memory.json").json()
    assert cache["columns"] == ["context_tokens", "original_bytes", "converted_bytes"]
    assert cache["rows"] == [[tokens, 23_040 * tokens, 7_200 * tokens] for tokens in CONTEXTS]
    layers = client.get(f"/api/v1/jobs/{done_job}/figures/layers.csv")
    assert layers.headers["content-type"].startswith("text/csv")
    assert len(layers.text.splitlines()) == LAYERS + 1


@pytest.mark.parametrize("address", ["jobs/{job}/figures/no.csv", "jobs/nosuchjob/figures/layers.csv"])
def test_what_is_not_there_says_what_is(client: TestClient, done_job: str, address: str) -> None:
    answer = client.get("/api/v1/" + address.format(job=done_job))
    assert answer.status_code == 404
    assert answer.json()["hint"]


def test_another_ending_is_not_found(client: TestClient, done_job: str) -> None:
    """Neither CSV nor JSON: refused before anything is read."""
    assert client.get(f"/api/v1/jobs/{done_job}/figures/layers.xlsx").status_code == 422


def test_a_model_gives_its_cache_and_its_points(
    client: TestClient, bench: Workbench, tiny_copy: Path
) -> None:
    """Two jobs of one model: both are points; the one that is smaller at the same loss is the best."""
    jobs = [finish_job(bench, {"config.json": b"{}"}, JobSpec(model=str(tiny_copy))) for _ in range(2)]
    table = client.get(f"/api/v1/models/figures/pareto.json?model={tiny_copy}").json()
    column = table["columns"].index
    assert {row[column("job")] for row in table["rows"]} == set(jobs)
    assert all(row[column("bytes_per_token")] == 7200.0 for row in table["rows"])
    cache = client.get(f"/api/v1/models/figures/kv_memory.csv?model={tiny_copy}").text.splitlines()
    # 4 layers, 2 KV heads of 16 dims, keys and values, float32
    assert cache[1] == f"1024,{1024 * 4 * 2 * 2 * 16 * 4}"
    no_profile = client.get(f"/api/v1/models/figures/spectrum.csv?model={tiny_copy}")
    assert no_profile.status_code == 404
    assert "profile" in no_profile.json()["error"]
