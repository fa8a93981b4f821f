# SPDX-License-Identifier: Apache-2.0
"""A sweep over REST: what it would do, its jobs in one go, who waits for whom, and cancelling the rest."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.services.workbench import Workbench
from core.events import Progress
from core.store.views import State
from tests.app.conftest import CountingBell


@pytest.fixture
def body(tiny_copy: Path, sample_text: Path) -> dict[str, Any]:
    return {
        "model": str(tiny_copy),
        "presets": ["quality", "fast"],
        "keeps": [0.5, 0.25],
        "calibration": {"text": str(sample_text), "tokens": 2048, "context": 64},
        "evaluation": None,
    }


def test_a_preview_shows_every_job_and_stores_nothing(client: TestClient, body: dict[str, Any]) -> None:
    found = client.post("/api/v1/sweeps/preview", json=body).json()
    assert [(row["spec"]["preset"], row["spec"]["keep"]) for row in found["rows"]] == [
        ("quality", 0.25),
        ("quality", 0.5),
        ("fast", 0.25),
        ("fast", 0.5),
    ]
    smaller = [row["factor"] for row in found["rows"][:2]]
    assert smaller == pytest.approx([4, 2], rel=0.05)
    assert found["makes_profile"]
    # nothing was done here yet, so nothing can be foretold
    assert found["seconds"] is None
    assert client.get("/api/v1/jobs").json()["total"] == 0


def test_one_profile_leads_and_the_rest_wait_for_it(
    client: TestClient, body: dict[str, Any], bell: CountingBell, bench: Workbench
) -> None:
    answer = client.post("/api/v1/sweeps", json=body)
    assert answer.status_code == 201
    leader, *rest = answer.json()["jobs"]
    assert answer.headers["Location"] == f"/api/v1/sweeps/{answer.json()['id']}"
    assert (leader["spec"]["kind"], leader["after_id"]) == ("profile", None)
    assert [job["after_id"] for job in rest] == [leader["id"]] * 4
    assert {job["spec"]["calibration"]["text"] for job in rest} == {leader["spec"]["calibration"]["text"]}
    assert bell.rung == [leader["id"]]
    # a second sweep of the same model and text waits for the same profile
    second = client.post("/api/v1/sweeps", json=body | {"keeps": [0.75, 0.6]}).json()
    assert {job["after_id"] for job in second["jobs"]} == {leader["id"]}
    assert bench.store.claim(rest[0]["id"], "w#1", 60) is None


def test_one_that_cannot_work_queues_none(client: TestClient, body: dict[str, Any]) -> None:
    refused = client.post("/api/v1/sweeps", json=body | {"presets": ["mha2mla"], "keeps": [0.5, 0.01]})
    assert refused.status_code == 422
    assert refused.json()["hint"]
    assert client.get("/api/v1/jobs").json()["total"] == 0
    found = client.post("/api/v1/sweeps/preview", json=body | {"presets": ["mha2mla"], "keeps": [0.5, 0.01]})
    assert [bool(row["problem"]) for row in found.json()["rows"]] == [True, False]


@pytest.mark.parametrize(
    "wrong", [{"keeps": []}, {"presets": ["nobody"]}, {"keeps": [k / 100 for k in range(1, 99)]}]
)
def test_a_sweep_that_makes_no_sense_is_refused(
    client: TestClient, body: dict[str, Any], wrong: dict[str, Any]
) -> None:
    assert client.post("/api/v1/sweeps", json=body | wrong).status_code == 422


def test_cancelling_leaves_what_is_done_and_starts_nothing(
    client: TestClient, body: dict[str, Any], bench: Workbench
) -> None:
    sweep = client.post("/api/v1/sweeps", json=body).json()
    leader = sweep["jobs"][0]["id"]
    bench.store.claim(leader, "w#1", 60)
    bench.store.progress(leader, "w#1", Progress(stage="calibrating", done=1, total=2))
    found = client.post(f"/api/v1/sweeps/{sweep['id']}/cancel").json()
    assert [job["state"] for job in found["jobs"]] == ["cancelling"] + ["cancelled"] * 4
    bench.store.cancelled(leader, "w#1")
    bench.recent.forget()
    assert client.get(f"/api/v1/sweeps/{sweep['id']}").json()["ended"] == 5
    assert bench.store.count(states=[State.QUEUED]) == 0
    assert client.get("/api/v1/sweeps/nosuch").status_code == 404
