# SPDX-License-Identifier: Apache-2.0
"""Chat over HTTP: a prompt is stored and rung for; what cannot be asked names the field and the fix."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.services import chat
from app.services.workbench import Workbench
from core.chat.naming import weight_bytes
from core.errors import WorkbenchError
from core.store.chat_views import LoadedModel, Sampling
from tests.app.conftest import CountingBell, finish_job

URL = "/api/v1/chat"


@pytest.fixture
def model(tiny_checkpoint: Path) -> str:
    return str(tiny_checkpoint)


def question(*models: str, **more: Any) -> dict[str, Any]:
    return {"models": models, "prompt": "why?"} | more


def test_a_prompt_is_stored_for_every_model_and_rung_for_once(
    client: TestClient, bench: Workbench, bell: CountingBell, model: str, done_job: str
) -> None:
    answer = client.post(URL, json=question(model, f"job:{done_job}", sampling={"seed": 4}))
    assert answer.status_code == 201
    body = answer.json()
    assert [one["model"] for one in body["turns"]] == [model, f"job:{done_job}"]
    assert {one["state"] for one in body["turns"]} == {"waiting"}
    assert body["turns"][0]["sampling"]["seed"] == 4
    assert bell.rung == ["chat"]
    assert client.get(f"{URL}/{body['session']}").json() == body


def test_conversations_are_listed_and_deleted(client: TestClient, model: str) -> None:
    sessions = [client.post(URL, json=question(model)).json()["session"] for _ in range(3)]
    listed = client.get(f"{URL}/conversations", params={"limit": 2}).json()
    assert listed["total"] == 3
    assert [one["session"] for one in listed["conversations"]] == sessions[:0:-1]
    assert [one["prompt"] for one in listed["conversations"]] == ["why?", "why?"]
    assert client.delete(f"{URL}/{sessions[2]}").status_code == 204
    assert client.get(f"{URL}/conversations").json()["total"] == 2


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"models": []}, "models"),
        ({"models": ["a", "b", "c", "d"]}, "models"),
        ({"prompt": "  "}, "prompt"),
        ({"prompt": "x" * 100_001}, "prompt"),
        ({"session": "../../etc"}, "session"),
        ({"sampling": {"temperature": -1}}, "sampling.temperature"),
        ({"models": ["/nowhere/at/all"]}, "model"),
    ],
)
def test_what_cannot_be_asked_names_its_field(
    client: TestClient, bell: CountingBell, model: str, wrong: dict[str, Any], field: str
) -> None:
    answer = client.post(URL, json=question(model) | wrong)
    assert answer.status_code == 422
    assert answer.json()["field"] == field
    assert bell.rung == []


def test_a_model_outside_the_allowed_folders_is_not_even_measured(
    bench: Workbench, model: str, tmp_path: Path
) -> None:
    closed = Workbench(
        bench.settings.model_copy(update={"model_roots": str(tmp_path)}), bench.store, bench.bell
    )
    with pytest.raises(WorkbenchError, match="MLA_MODEL_ROOTS"):
        chat.ask(closed, [model], "why?", Sampling())
    assert chat.bytes_of(closed, model) is None
    assert chat.bytes_of(bench, model) == weight_bytes(Path(model))


def test_a_job_that_is_not_there_or_not_done_is_said_to_be(client: TestClient, running_job: str) -> None:
    assert client.post(URL, json=question("job:nosuchjob")).status_code == 404
    answer = client.post(URL, json=question(f"job:{running_job}"))
    assert answer.status_code == 409
    assert "running, not done" in answer.json()["error"]


def test_a_job_whose_files_were_removed_is_explained(
    client: TestClient, bench: Workbench, done_job: str
) -> None:
    (bench.result_folder(done_job) / "config.json").unlink()
    answer = client.post(URL, json=question(f"job:{done_job}"))
    assert answer.status_code == 422
    assert "no result to talk to" in answer.json()["error"]
    assert all(one["job"] is None for one in client.get(URL).json()["models"])


def test_stop_answers_at_once_and_the_conversation_goes_on(client: TestClient, model: str) -> None:
    session = client.post(URL, json=question(model)).json()["session"]
    refused = client.post(URL, json=question(model, session=session))
    assert refused.status_code == 409
    assert "still being answered" in refused.json()["error"]
    stopped = client.post(f"{URL}/{session}/stop").json()["turns"]
    assert [one["state"] for one in stopped] == ["stopped"]
    again = client.post(URL, json=question(model, session=session))
    assert again.status_code == 201
    assert [one["turn"] for one in again.json()["turns"]] == [2]
    assert client.delete(f"{URL}/{session}").status_code == 204
    assert client.get(f"{URL}/{session}").status_code == 404


def test_who_can_be_asked_and_what_is_in_memory(client: TestClient, bench: Workbench) -> None:
    job_id = finish_job(bench, {"config.json": b"{}"})
    listed = client.get(URL).json()
    assert [one["model"] for one in listed["models"]] == ["demo", f"job:{job_id}"]
    assert [one["base"] for one in listed["models"]] == ["demo", "demo"]
    assert listed["host"] is None
    assert bench.store.chat.claim_host("h", 60, 1000)
    bench.store.chat.hold("h", [LoadedModel(model="demo", bytes=5)])
    host = client.get(URL).json()["host"]
    assert host == {"budget_bytes": 1000, "memory_bytes": 0, "models": [{"model": "demo", "bytes": 5}]}
