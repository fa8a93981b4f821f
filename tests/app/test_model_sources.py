# SPDX-License-Identifier: Apache-2.0
"""Models on this machine and on the Hub: found by name, without ever making somebody wait for a network."""

import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from huggingface_hub import constants

from app.main import create_api
from app.services import model_sources
from app.services.model_sources import ModelSources
from core.settings import Settings
from tests.app.conftest import CountingBell
from tests.core.hub_server import Hub, serving


@pytest.fixture
def hub(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with two models, and this process online to it."""
    with serving({"owner/Tiny-Llama": tiny_checkpoint, "owner/other": tiny_checkpoint}) as hub:
        _go_online(monkeypatch, hub.url)
        yield hub


def _go_online(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def rooted(tmp_path: Path, tiny_checkpoint: Path) -> Settings:
    """A root with one model two levels deep, a hidden one, and a link back up."""
    root = tmp_path / "root"
    shutil.copytree(tiny_checkpoint, root / "group" / "tiny-one")
    shutil.copytree(tiny_checkpoint, root / ".trash" / "tiny-two")
    (root / "group" / "again").symlink_to(root)
    return Settings(data_dir=tmp_path / "data", model_roots=str(root))


def test_folders_below_the_roots_are_found(rooted: Settings, tmp_path: Path) -> None:
    found = ModelSources().local(rooted)
    assert [(one.model, one.where) for one in found if one.where == "folder"] == [
        (str(tmp_path / "root" / "group" / "tiny-one"), "folder")
    ]


def test_the_hub_is_searched_while_online(rooted: Settings, hub: Hub) -> None:
    """What is here comes first; each model once."""
    answer = ModelSources().search(rooted, " tiny ")
    assert [(Path(one.model).name, one.where) for one in answer.models] == [
        ("tiny-one", "folder"),
        ("Tiny-Llama", "hub"),
    ]
    assert answer.models[1].downloads == 1234
    assert answer.note == ""


def test_two_letters_ask_nobody(rooted: Settings, hub: Hub) -> None:
    answer = ModelSources().search(rooted, "ti")
    assert "3 letters" in answer.note
    assert [Path(one.model).name for one in answer.models] == ["tiny-one"]
    assert hub.requests == []


def test_offline_is_said_in_one_sentence(rooted: Settings, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    answer = ModelSources().search(rooted, "tiny")
    assert answer.note == "the Hub is not searched: HF_HUB_OFFLINE is set"
    assert [one.where for one in answer.models] == ["folder"]
    assert hub.requests == []


def _connections(server: socket.socket) -> int:
    """How many wait to be taken."""
    found = 0
    while True:
        try:
            server.accept()[0].close()
        except TimeoutError:
            return found
        found += 1


def test_a_hub_that_is_silent_is_not_waited_for(rooted: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection and says nothing; waiting for ever would keep a thread of the web process."""
    monkeypatch.setattr(model_sources, "SEARCH_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        _go_online(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        silent.settimeout(0.2)
        start = time.monotonic()
        sources = ModelSources()
        answer = sources.search(rooted, "tiny")
        assert sources.search(rooted, "tiny-").note == answer.note
        # every letter typed would take another connection
        assert _connections(silent) == 1
    assert "does not answer" in answer.note
    # a dead line, not a measurement: the client alone would wait without end
    assert time.monotonic() - start < 30


def test_a_hub_that_answers_nonsense_is_no_error(
    rooted: Settings, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", f"{hub.url}/nowhere")
    assert "does not answer" in ModelSources().search(rooted, "tiny").note


def test_the_search_is_in_the_api(rooted: Settings, hub: Hub) -> None:
    with TestClient(create_api(rooted, CountingBell())) as client:
        answer = client.get("/api/v1/models/search", params={"q": "other"}).json()
    assert answer == {"models": [{"model": "owner/other", "where": "hub", "downloads": 1234}], "note": ""}
