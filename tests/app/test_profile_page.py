# SPDX-License-Identifier: Apache-2.0
"""A profile job on its page: its own stages, what it is good for, the one file it leaves."""

from fastapi.testclient import TestClient

from app.services.workbench import Workbench
from app.ui.components.profile_result import profile_downloads, profile_summary
from app.ui.components.progress import job_head, recipe_name
from app.ui.components.results import by_name
from app.ui.components.spec import spec_list
from core.events import StageStarted
from core.spec import JobSpec
from core.store.artefacts import describe
from core.store.views import StoredMetric


def metrics(calibrated: float) -> dict[str, StoredMetric]:
    found = {"calibrated_tokens": calibrated, "profile_tokens": 32768.0, "profile_spread_quality": 1.25}
    return by_name([StoredMetric(name=n, value=v, unit="", source="measured") for n, v in found.items()])


def test_a_profile_job_shows_its_own_stages(bench: Workbench) -> None:
    job = bench.store.submit(JobSpec(kind="profile"))
    bench.store.claim(job.id, "worker", 1000)
    bench.store.record(job.id, "worker", StageStarted(stage="calibrating", total=121))
    head = job_head(bench.store.get(job.id), True)
    assert "profile · wikipedia" in head
    assert "calibrate" in head
    assert "verify" not in head
    assert "convert" not in head


def test_its_result_says_how_far_predictions_can_be_off(bench: Workbench) -> None:
    made, found = profile_summary(metrics(32768)), profile_summary(metrics(0))
    assert "×1.25" in made
    assert "Best quality" in made
    assert "Fast decode" not in made, "what was not reported has no tile"
    assert "had its profile already" in found
    assert "had its profile already" not in made


def test_the_one_file_is_offered(bench: Workbench) -> None:
    folder = bench.result_folder("abc")
    folder.mkdir(parents=True)
    (folder / "profile.json").write_text("{}")
    html = profile_downloads("abc", describe(folder))
    assert 'href="/api/v1/jobs/abc/files/profile.json"' in html
    assert "transformers" not in html


def test_the_stored_request_speaks_of_what_counts(bench: Workbench) -> None:
    words = spec_list(JobSpec(kind="profile", device="cpu"))
    assert "profile" in words
    assert "Budget" not in words
    by_hand = JobSpec(layer_ranks=(20, 96, 40), rope_pairs=(((0,),),))
    words = spec_list(by_hand)
    assert "layer by layer, 20 to 96" in words
    assert "chosen one by one" in words
    job = bench.store.submit(by_hand)
    assert recipe_name(job).startswith("ranks by layer")


def test_a_profile_is_queued_over_rest(client: TestClient, tiny_copy: object) -> None:
    body = {"kind": "profile", "model": str(tiny_copy), "calibration": {"tokens": 512, "context": 64}}
    answer = client.post("/api/v1/jobs", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["spec"]["kind"] == "profile"
