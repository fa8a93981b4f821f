# SPDX-License-Identifier: Apache-2.0
"""REST over jobs: what is accepted is stored and rung, what is refused says why and leaves nothing behind."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.services.workbench import Workbench
from core.spec import JobSpec
from tests.app.conftest import CountingBell

TEXT = {"calibration": {"text": "python-docs"}, "evaluation": {"text": "python-docs"}}


def test_a_good_request_is_stored_and_rung(
    client: TestClient, bell: CountingBell, tiny_checkpoint: Path
) -> None:
    """201 with the job, its address in Location, and one ring."""
    answer = client.post("/api/v1/jobs", json={"model": str(tiny_checkpoint), "keep": 0.5} | TEXT)
    job = answer.json()
    assert answer.status_code == 201, job
    assert answer.headers["location"] == f"/api/v1/jobs/{job['id']}"
    assert job["state"] == "queued"
    assert job["spec"]["keep"] == 0.5
    assert bell.rung == [job["id"]]
    assert client.get(answer.headers["location"]).json()["id"] == job["id"]


def test_a_preset_fills_what_is_not_said(client: TestClient, tiny_checkpoint: Path) -> None:
    """mha2mla-81 means keep 0.1875, not JobSpec's own default, unless keep is said."""
    body = {"model": str(tiny_checkpoint), "preset": "mha2mla-81", "rope_dim": None} | TEXT
    assert client.post("/api/v1/jobs", json=body).json()["spec"]["keep"] == 0.1875
    assert client.post("/api/v1/jobs", json=body | {"keep": 0.75}).json()["spec"]["keep"] == 0.75


def test_null_skips_the_measurement_also_with_a_preset(client: TestClient, tiny_checkpoint: Path) -> None:
    """A null is said, not left out: nothing is measured that was asked to be skipped."""
    body = {"model": str(tiny_checkpoint), "preset": "mha2mla", "keep": 0.5} | TEXT | {"evaluation": None}
    assert client.post("/api/v1/jobs", json=body).json()["spec"]["evaluation"] is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": "/nowhere/at/all"}, "model"),
        ({"model": "not a model"}, "model"),
        ({"keep": 0}, "keep"),
        ({"keep": 2}, "keep"),
        ({"keep": 0.01}, "keep"),
        ({"rope_dim": 3, "kv_rank": 4}, "rope_dim"),
        ({"rope_dim": 4}, "kv_rank"),
        ({"rope_dim": 4, "kv_rank": 0}, "kv_rank"),
        ({"rope_dim": 4, "kv_rank": 4096}, "kv_rank"),
        ({"preset": "nonsense"}, "preset"),
        ({"recipe": {"factor_form": "joint-qk"}}, "recipe.factor_form"),
        ({"recipe": {"layout": "pre-rope", "rope_mix": "roro"}}, "recipe.layout"),
        ({"recipe": {"freqfold": 4}}, "recipe.freqfold"),
        ({"recipe": {"rope_mix": "roro", "rope_select": "2-norm"}}, "recipe.rope_select"),
        ({"recipe": {"rope_select": "high", "rope_select_start": 1}}, "recipe.rope_select_start"),
        ({"recipe": {"rope_select": "uniform", "rope_select_start": 8}}, "recipe.rope_select_start"),
        ({"surprise": 1}, "surprise"),
        ({"calibration": {"text": "~nobody/x"}}, "calibration.text"),
        ({"evaluation": {"text": "x" * 300}}, "evaluation.text"),
        ({"calibration": {"text": "/no/such/text"}}, "calibration.text"),
        ({"evaluation": {"text": "/no/such/text"}}, "evaluation.text"),
    ],
)
def test_a_bad_request_names_field_and_fix(
    client: TestClient,
    bench: Workbench,
    bell: CountingBell,
    tiny_checkpoint: Path,
    change: dict[str, object],
    field: str,
) -> None:
    """422 with error, hint and field; nothing is stored and nobody is rung."""
    answer = client.post("/api/v1/jobs", json={"model": str(tiny_checkpoint), "keep": 0.5} | TEXT | change)
    body = answer.json()
    assert answer.status_code == 422, body
    assert set(body) == {"error", "hint", "field"}
    assert body["field"] == field
    assert body["error"]
    assert body["hint"]
    assert bench.store.count() == 0
    assert bell.rung == []


@pytest.mark.parametrize(("content", "word"), [(b"", "empty"), (b"\xff\xfe\x00\x01", "UTF-8")])
def test_empty_and_binary_texts_are_refused(
    client: TestClient, tiny_checkpoint: Path, tmp_path: Path, content: bytes, word: str
) -> None:
    """The text is opened before the job is queued, not an hour later."""
    text = tmp_path / "text.txt"
    text.write_bytes(content)
    body = {"model": str(tiny_checkpoint), "keep": 0.5} | TEXT | {"calibration": {"text": str(text)}}
    answer = client.post("/api/v1/jobs", json=body)
    assert answer.status_code == 422
    assert word in answer.json()["error"]
    assert answer.json()["field"] == "calibration.text"


def test_unusable_checkpoints_are_refused(client: TestClient, tmp_path: Path, tiny_checkpoint: Path) -> None:
    """Pickle-only, corrupt and unknown architectures are told apart."""
    config = (tiny_checkpoint / "config.json").read_text()
    bodies = {}
    for name, files in {
        "pickle": {"config.json": config, "pytorch_model.bin": "x"},
        "corrupt": {"config.json": config, "model.safetensors": "this is no header"},
        "unknown": {
            "config.json": config.replace('"llama"', '"mamba"'),
            "model.safetensors": (tiny_checkpoint / "model.safetensors").read_bytes(),
        },
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        for file, content in files.items():
            (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
        answer = client.post("/api/v1/jobs", json={"model": str(folder)} | TEXT)
        assert answer.status_code == 422
        bodies[name] = answer.json()
    assert "pickle" in bodies["pickle"]["error"]
    assert "not a readable safetensors" in bodies["corrupt"]["error"]
    assert "'mamba' cannot be converted yet" in bodies["unknown"]["error"]


def test_plan_answers_with_numbers_or_with_problems(client: TestClient, tiny_checkpoint: Path) -> None:
    """The same spec, without storing anything; a blocked plan is an answer, not an error."""
    good = client.post(
        "/api/v1/plan?context=100&batch=2", json={"model": str(tiny_checkpoint), "keep": 0.5} | TEXT
    ).json()
    assert good["problems"] == []
    # 4 layers x 2 x 2 KV heads x 16 numbers x 4 bytes
    assert good["plan"]["kv_bytes_per_token_before"] == 4 * 64 * 4
    assert good["cache_bytes_before"] == 4 * 64 * 4 * 100 * 2
    blocked = client.post("/api/v1/plan", json={"model": str(tiny_checkpoint), "keep": 0.01} | TEXT)
    assert blocked.status_code == 200
    assert blocked.json()["problems"][0]["field"] == "keep"


def test_catalogue_lists_what_can_be_chosen(client: TestClient, tiny_checkpoint: Path) -> None:
    """Facts, presets and stages, each enough to build a form from."""
    facts = client.get("/api/v1/models/facts", params={"model": str(tiny_checkpoint)}).json()
    assert (facts["layers"], facts["kv_heads"], facts["problems"]) == (4, 2, [])
    assert client.get("/api/v1/models/facts", params={"model": "/nowhere"}).status_code == 422
    assert {"quality", "fast", "transmla", "mha2mla"} <= {
        one["name"] for one in client.get("/api/v1/presets").json()
    }
    stages = client.get("/api/v1/stages").json()
    assert "2-norm" in stages["rope_select"]["ready"]
    assert "joint" in stages["linear_form"]["ready"]
    assert client.get("/api/v1/models").json()[0] == "demo"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/cancel"),
        ("POST", "/resume"),
        ("GET", "/events"),
        ("GET", "/log"),
        ("GET", "/metrics"),
        ("GET", "/figures"),
        ("GET", "/files"),
        ("GET", "/files/config.json"),
        ("GET", "/archive"),
        ("GET", "/checksums"),
    ],
)
def test_an_unknown_job_is_404_everywhere(client: TestClient, method: str, path: str) -> None:
    """Never an empty answer that looks like a job without results."""
    answer = client.request(method, f"/api/v1/jobs/nosuchjob1{path}")
    assert answer.status_code == 404
    assert answer.json()["hint"]


def test_steps_a_job_cannot_make_are_409(client: TestClient, done_job: str, running_job: str) -> None:
    """A done job is not cancelled, a running one is neither resumed nor deleted."""
    for method, job, step in (
        ("POST", done_job, "/cancel"),
        ("POST", done_job, "/resume"),
        ("POST", running_job, "/resume"),
        ("DELETE", running_job, ""),
    ):
        answer = client.request(method, f"/api/v1/jobs/{job}{step}")
        assert answer.status_code == 409, (method, step)
        assert answer.json()["error"]


def test_cancel_resume_delete(client: TestClient, bench: Workbench, bell: CountingBell) -> None:
    """A waiting job is cancelled at once, resumed with a ring, cancelled again and forgotten."""
    job = bench.store.submit(JobSpec()).id
    assert client.post(f"/api/v1/jobs/{job}/cancel").json()["state"] == "cancelled"
    assert client.post(f"/api/v1/jobs/{job}/resume").json()["state"] == "queued"
    assert bell.rung == [job]
    client.post(f"/api/v1/jobs/{job}/cancel")
    assert client.delete(f"/api/v1/jobs/{job}").status_code == 204
    assert client.get(f"/api/v1/jobs/{job}").status_code == 404


def test_events_continue_at_the_cursor(client: TestClient, done_job: str) -> None:
    """Two halves make the whole: a page that reconnects misses nothing and sees nothing twice."""
    whole = client.get(f"/api/v1/jobs/{done_job}/events").json()
    first = client.get(f"/api/v1/jobs/{done_job}/events?limit=5").json()
    rest = client.get(f"/api/v1/jobs/{done_job}/events?after={first['cursor']}").json()
    assert first["events"] + rest["events"] == whole["events"]
    assert len(first["events"]) == 5
    end = client.get(f"/api/v1/jobs/{done_job}/events?after={whole['cursor']}").json()
    assert end == {"events": [], "cursor": whole["cursor"]}


def test_list_filters_and_counts(client: TestClient, done_job: str, running_job: str) -> None:
    """By state and by text, newest first, with the total for paging."""
    everything = client.get("/api/v1/jobs").json()
    assert [job["id"] for job in everything["jobs"]] == [running_job, done_job]
    done = client.get("/api/v1/jobs?state=done").json()
    assert ([job["id"] for job in done["jobs"]], done["total"]) == ([done_job], 1)
    assert client.get("/api/v1/jobs?text=nothing-like-it").json() == {"jobs": [], "total": 0}
    paged = client.get("/api/v1/jobs?limit=1&offset=1").json()
    assert ([job["id"] for job in paged["jobs"]], paged["total"]) == ([done_job], 2)
    assert client.get("/api/v1/jobs?limit=0").status_code == 422


def test_numbers_figures_and_log(client: TestClient, bench: Workbench, done_job: str) -> None:
    """What the page shows can be fetched; the log may be tailed and starts at a whole line."""
    metrics = {one["name"]: one for one in client.get(f"/api/v1/jobs/{done_job}/metrics").json()}
    assert metrics["perplexity_ratio"]["source"] == "measured"
    assert set(client.get(f"/api/v1/jobs/{done_job}/figures").json()) == {"rope_contribution", "layers"}
    assert client.get(f"/api/v1/jobs/{done_job}/log").text == ""
    bench.log_file(done_job).write_text("first line\nsecond line\n")
    assert client.get(f"/api/v1/jobs/{done_job}/log").text == "first line\nsecond line\n"
    assert client.get(f"/api/v1/jobs/{done_job}/log?tail=15").text == "second line\n"


def test_openapi_documents_every_route(client: TestClient) -> None:
    """The contract can be read by machines, errors included, and loads nothing from elsewhere."""
    schema = client.get("/api/openapi.json").json()
    for path in ("/jobs", "/jobs/{job_id}/archive", "/plan", "/stages", "/presets", "/models/facts"):
        assert f"/api/v1{path}" in schema["paths"]
    submit = schema["paths"]["/api/v1/jobs"]["post"]
    assert submit["responses"]["422"]["content"]["application/json"]["schema"]["$ref"].endswith("ErrorBody")
    assert "JobSpec" in str(submit["requestBody"])
