# SPDX-License-Identifier: Apache-2.0
"""Which files of the server a request may name, on loopback and behind an address that others reach."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.main import create_api
from core.settings import Settings
from tests.app.conftest import CountingBell


@pytest.fixture
def allowed(tmp_path: Path) -> Path:
    """A folder of texts; beside it one that is nobody's business, and a link into that."""
    secret = tmp_path / "secret.txt"
    secret.write_text("not for others " * 50)
    folder = tmp_path / "allowed"
    folder.mkdir()
    (folder / "fine.txt").write_text("for everybody " * 50)
    (folder / "link.txt").symlink_to(secret)
    return folder


@pytest.fixture
def exposed(tmp_path: Path, allowed: Path, tiny_checkpoint: Path) -> Iterator[TestClient]:
    roots = os.pathsep.join([str(tmp_path / "nowhere"), str(tiny_checkpoint)])
    settings = Settings(
        data_dir=tmp_path / "data", host="0.0.0.0", text_roots=str(allowed), model_roots=roots
    )
    with TestClient(create_api(settings, CountingBell())) as client:
        yield client


def problems(client: TestClient, model: Path | str, text: Path | str = "python-docs") -> list[dict[str, str]]:
    asked = {"model": str(model), "calibration": {"text": str(text)}, "evaluation": None}
    found: list[dict[str, str]] = client.post("/api/v1/plan", json=asked).json()["problems"]
    # submitting refuses what planning refuses
    assert client.post("/api/v1/jobs", json=asked).status_code == (422 if found else 201)
    return found


def test_what_lies_in_the_allowed_folders_can_be_named(
    exposed: TestClient, allowed: Path, tiny_checkpoint: Path
) -> None:
    assert problems(exposed, tiny_checkpoint, allowed / "fine.txt") == []
    assert problems(exposed, tiny_checkpoint, f"{allowed / 'fine.txt'}+news") == []


def test_what_lies_outside_is_refused_with_the_setting(
    exposed: TestClient, allowed: Path, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    for text in (tmp_path / "secret.txt", allowed / "link.txt", allowed / ".." / "secret.txt"):
        (found,) = problems(exposed, tiny_checkpoint, text)
        assert found["field"] == "calibration.text"
        assert "does not read the file" in found["message"]
        assert f"MLA_TEXT_ROOTS: {allowed}" in found["hint"]
    (mixed,) = problems(exposed, tiny_checkpoint, f"news+{tmp_path / 'secret.txt'}")
    assert "does not read the file" in mixed["message"]


def test_a_folder_outside_is_refused_whether_it_is_there_or_not(exposed: TestClient, tmp_path: Path) -> None:
    """Else the words of the refusal would tell which folders the server has."""
    words = set()
    for model in (tmp_path, tmp_path / "absent"):
        (found,) = problems(exposed, model)
        assert found["field"] == "model"
        words.add(found["message"].replace(str(model), ""))
        assert "MLA_MODEL_ROOTS" in found["hint"]
        facts = exposed.get("/api/v1/models/facts", params={"model": str(model)})
        assert facts.status_code == 422
    assert len(words) == 1


def test_exposed_without_roots_reads_uploads_only(
    tmp_path: Path, allowed: Path, tiny_checkpoint: Path
) -> None:
    settings = Settings(
        data_dir=tmp_path / "data", host="192.168.0.7", model_roots=str(tiny_checkpoint.parent)
    )
    with TestClient(create_api(settings, CountingBell())) as client:
        client.post("/api/v1/texts?name=mine", content=b"my own text")
        assert problems(client, tiny_checkpoint, "upload:mine") == []
        (found,) = problems(client, tiny_checkpoint, allowed / "fine.txt")
    assert "have its folder added to MLA_TEXT_ROOTS" in found["hint"]


def test_on_loopback_everything_is_the_users_own(
    client: TestClient, allowed: Path, tiny_checkpoint: Path
) -> None:
    assert problems(client, tiny_checkpoint, allowed / "link.txt") == []


def test_roots_hold_on_loopback_too_once_they_are_set(tmp_path: Path, allowed: Path, tiny_copy: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", text_roots=str(allowed))
    with TestClient(create_api(settings, CountingBell())) as client:
        assert problems(client, tiny_copy, allowed / "fine.txt") == []
        assert problems(client, tiny_copy, tmp_path / "secret.txt")
