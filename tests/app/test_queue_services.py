# SPDX-License-Identifier: Apache-2.0
"""The queue over REST: pause, retry with a change, waits, and the disk with its quota."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.main import create_api
from app.services.queue import expected, schedule
from app.services.workbench import Workbench
from core.fixes import Fix, less_device_memory, less_memory
from core.settings import Settings
from core.spec import Calibration, JobSpec
from core.store.views import Lineage
from tests.app.conftest import CountingBell, finish_job


@pytest.fixture
def spec(tiny_copy: Path) -> JobSpec:
    return JobSpec(model=str(tiny_copy), evaluation=None)


def test_pause_and_resume_over_rest(client: TestClient, running_job: str, bench: Workbench) -> None:
    assert client.post(f"/api/v1/jobs/{running_job}/pause").json()["state"] == "pausing"
    refused = client.post(f"/api/v1/jobs/{running_job}/pause")
    assert (refused.status_code, "pausing" in refused.json()["error"]) == (409, True)
    bench.store.paused(running_job, "worker")
    assert client.post(f"/api/v1/jobs/{running_job}/resume").json()["state"] == "queued"


def test_a_clone_knows_its_parent(client: TestClient, tiny_copy: Path) -> None:
    body = {"model": str(tiny_copy), "evaluation": None}
    first = client.post("/api/v1/jobs", json=body).json()
    clone = client.post(f"/api/v1/jobs?parent_id={first['id']}", json=body).json()
    assert (first["parent_id"], clone["parent_id"]) == (None, first["id"])


def test_a_retry_is_a_new_job_with_the_change_applied(
    client: TestClient, bench: Workbench, spec: JobSpec, bell: CountingBell
) -> None:
    failed = bench.store.submit(spec).id
    bench.store.claim(failed, "worker", 60)
    bench.store.fail(failed, "worker", "out of memory", fixes=less_memory(spec))
    offered = client.get(f"/api/v1/jobs/{failed}").json()["fixes"]
    assert offered[0]["label"] == "windows of 256 tokens"
    answer = client.post(f"/api/v1/jobs/{failed}/retry", json={"fix": 0})
    assert answer.status_code == 201
    job = answer.json()
    assert job["parent_id"] == failed
    assert job["spec"]["calibration"]["context"] == 256
    assert job["spec"]["calibration"]["tokens"] == spec.calibration.tokens
    assert bell.rung == [job["id"]]
    assert client.post(f"/api/v1/jobs/{failed}/retry", json={"fix": 9}).status_code == 404


def test_what_is_small_already_is_not_offered_smaller() -> None:
    """At most three buttons, and none that changes nothing."""
    small = JobSpec(calibration=Calibration(tokens=4096, context=128), shard_bytes=1_000_000_000)
    assert less_memory(small) == ()
    assert [fix.label for fix in less_device_memory(small)] == ["on the CPU"]
    assert len(less_device_memory(JobSpec())) == 3
    assert Fix(label="x", changes={"device": "cpu"}) not in less_memory(JobSpec())


def test_a_wait_is_what_is_ahead_shared_by_the_places(bench: Workbench, spec: JobSpec) -> None:
    """Three jobs of 60 s on two places: two start now, the third when the first of them has ended."""
    for _ in range(3):
        bench.store.submit(spec)
    jobs = bench.store.waiting()
    found = schedule([], jobs, dict.fromkeys((job.id for job in jobs), 60.0), slots=2)
    assert [found[job.id].starts_in for job in jobs] == [0, 0, 60]
    assert [found[job.id].ends_in for job in jobs] == [60, 60, 120]


def test_a_job_that_waits_for_another_is_not_expected_before_its_end(bench: Workbench, spec: JobSpec) -> None:
    leader = bench.store.submit(spec).id
    follower = bench.store.submit(spec, lineage=Lineage(after_id=leader)).id
    found = schedule([], bench.store.waiting(), {leader: 30.0, follower: 60.0}, slots=4)
    assert (found[follower].starts_in, found[follower].ends_in) == (30, 90)


def test_behind_a_job_of_unknown_length_nothing_is_foretold(bench: Workbench, spec: JobSpec) -> None:
    first, second = (bench.store.submit(spec).id for _ in range(2))
    found = schedule([], bench.store.waiting(), {first: None, second: 60.0}, slots=1)
    assert found[first].starts_in == 0
    assert found[second].starts_in is None


def test_the_queue_is_foretold_from_jobs_done_here(
    client: TestClient, bench: Workbench, spec: JobSpec
) -> None:
    bench.store.submit(spec)
    assert client.get("/api/v1/queue").json()[0]["ends_in"] is None
    bench.recent.forget()
    finish_job(bench, {"config.json": b"{}"}, spec, seconds=100)
    assert expected(bench)[bench.store.waiting()[0].id].ends_in == pytest.approx(100, rel=0.5)


def test_a_job_that_was_all_start_up_says_nothing_of_one_thousands_of_times_its_size(
    bench: Workbench, spec: JobSpec
) -> None:
    small = spec.model_copy(update={"calibration": Calibration(tokens=64, context=16)})
    large = spec.model_copy(update={"calibration": Calibration(tokens=10_000_000)})
    finish_job(bench, {"config.json": b"{}"}, small, seconds=20)
    jobs = [bench.store.submit(one).id for one in (small, large)]
    found = expected(bench)
    assert found[jobs[0]].ends_in is not None
    assert found[jobs[1]].ends_in is None


def test_deleting_a_job_gives_back_what_its_folder_held(client: TestClient, bench: Workbench) -> None:
    job = finish_job(bench, {"model.safetensors": bytes(1_000_000)})
    held = client.get("/api/v1/disk").json()
    # whole blocks of the disk, so a little more than the bytes written
    assert 1_000_000 <= held["jobs"][job]["result"] < 1_020_000
    assert held["free"] > 0
    assert client.delete(f"/api/v1/jobs/{job}").status_code == 204
    assert client.get("/api/v1/disk").json()["jobs"] == {}


def test_a_job_over_the_quota_is_refused_before_it_is_queued(
    settings: Settings, bell: CountingBell, tiny_copy: Path
) -> None:
    """The result takes about 0.9 MB, the quota is 0.5 MB."""
    small = settings.model_copy(update={"quota_gb": 0.0005})
    with TestClient(create_api(small, bell)) as client:
        answer = client.post("/api/v1/jobs", json={"model": str(tiny_copy), "evaluation": None})
        assert answer.status_code == 422
        assert "quota" in answer.json()["error"]
        assert "MLA_QUOTA_GB" in answer.json()["hint"]
        assert client.get("/api/v1/jobs").json()["total"] == 0


def test_profiles_are_listed_and_removed_but_not_under_a_running_job(
    client: TestClient, bench: Workbench, running_job: str
) -> None:
    folder = bench.settings.home / "profiles" / "0123abcd"
    folder.mkdir(parents=True)
    (folder / "statistics").write_bytes(bytes(50_000))
    (listed,) = client.get("/api/v1/profiles").json()
    assert (listed["name"], listed["model"]) == ("0123abcd", "")
    assert client.delete("/api/v1/profiles/0123abcd").status_code == 409
    bench.store.request_cancel(running_job)
    bench.store.cancelled(running_job, "worker")
    assert client.delete("/api/v1/profiles/0123abcd").json()["bytes"] >= 50_000
    assert not folder.exists()
    for name in ("0123abcd", "..", "%2e%2e%2fjobs"):
        assert client.delete(f"/api/v1/profiles/{name}").status_code in (404, 405)
