# SPDX-License-Identifier: Apache-2.0
"""A web application on a real SQLite record, and a job that went its whole way through that record."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Browser

from app.main import create_api, create_app
from app.services.workbench import Workbench
from core.events import Event, Figure, Log, Metric, Progress, StageStarted
from core.settings import Settings
from core.spec import JobSpec
from core.store.artefacts import describe
from tests.browser import launch

if TYPE_CHECKING:
    from tests.app.browsing import Site

LAYERS, HEADS, PAIRS = 4, 2, 8


class CountingBell:
    """Remembers who was rung for. No broker is needed to show that a request is stored and rung once."""

    def __init__(self) -> None:
        self.rung: list[str] = []

    def ring(self, job_id: str) -> bool:
        self.rung.append(job_id)
        return True

    def ring_chat(self) -> bool:
        self.rung.append("chat")
        return True


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for the tests of one file."""
    with launch() as browser:
        yield browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Iterator[Site]:
    """The page on a real server with an empty record; a file that needs something in it has its own."""
    # browsing rings the bell of this file
    from tests.app.browsing import running_site

    with running_site(tmp_path_factory.mktemp("site"), tiny_checkpoint) as site:
        yield site


@pytest.fixture
def bell() -> CountingBell:
    return CountingBell()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def client(settings: Settings, bell: CountingBell) -> Iterator[TestClient]:
    """REST alone: the page takes a second to build."""
    with TestClient(create_api(settings, bell)) as client:
        yield client


@pytest.fixture
def page(settings: Settings, bell: CountingBell) -> Iterator[TestClient]:
    """REST and page."""
    with TestClient(create_app(settings, bell)) as client:
        yield client


@pytest.fixture
def bench(client: TestClient) -> Workbench:
    workbench = client.app.state.workbench  # type: ignore[attr-defined]
    assert isinstance(workbench, Workbench)
    return workbench


@pytest.fixture
def done_job(bench: Workbench) -> str:
    """The id of a job that is done, with events, numbers and a small result folder."""
    return finish_job(bench, {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 40})


@pytest.fixture
def running_job(bench: Workbench) -> str:
    """The id of a job that a worker holds, at layer 2 of 4."""
    job = bench.store.submit(JobSpec())
    bench.store.claim(job.id, "worker", 1000)
    bench.store.record(job.id, "worker", StageStarted(stage="converting", total=LAYERS))
    bench.store.record(
        job.id, "worker", Progress(stage="converting", done=2, total=LAYERS, message="layer 1")
    )
    return job.id


@pytest.fixture
def tiny_copy(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint of one's own, to be changed."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "tiny"))


def finish_job(
    bench: Workbench, files: dict[str, bytes], spec: JobSpec | None = None, seconds: float = 12.0
) -> str:
    """Take a new job from queued to done through the record, with `files` as its result."""
    job = bench.store.submit(spec or JobSpec())
    bench.store.claim(job.id, "worker", 1000)
    for event in [*events(), Metric(name="seconds", value=seconds, unit="s")]:
        assert bench.store.record(job.id, "worker", event)
    folder = bench.result_folder(job.id)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert bench.store.enter_verifying(job.id, "worker")
    assert bench.store.finish(job.id, "worker", describe(folder), 1_000_000)
    return job.id


def events() -> list[Event]:
    """What an engine emits for a model of 4 layers, 2 KV heads and 8 pairs."""
    numbers = {
        "perplexity_base": 20.0,
        "perplexity": 2600.0,
        "perplexity_ratio": 130.0,
        "kl_to_base": 4.8,
        "top1_agreement": 0.12,
        "kv_bytes_per_token_before": 23040.0,
        "kv_bytes_per_token_formula": 7200.0,
        "kv_bytes_per_token_measured": 7200.0,
    }
    return [
        StageStarted(stage="converting", total=LAYERS),
        Log(message="one <b>line</b>"),
        *(Progress(stage="converting", done=one + 1, total=LAYERS) for one in range(LAYERS)),
        Figure(name="rope_contribution", data=contribution()),
        Figure(name="layers", data={"rows": layer_rows()}),
        *(Metric(name=name, value=value) for name, value in numbers.items()),
    ]


def contribution() -> dict[str, object]:
    """Scores that fall with the pair; head 0 keeps pairs 0 and 1, head 1 keeps 0 and 2."""
    scores = [[[10.0 ** (-pair) * (head + 1) for pair in range(PAIRS)] for head in range(HEADS)]] * LAYERS
    kept = [[[0, 1], [0, 2]]] * LAYERS
    return {"scores": scores, "kept": kept, "inv_freq": [10_000 ** (-pair / PAIRS) for pair in range(PAIRS)]}


def layer_rows() -> list[dict[str, float]]:
    return [
        {
            "index": index,
            "kv_lora_rank": 12,
            "qk_rope_head_dim": 4,
            "cached_numbers": 20,
            "base_numbers": 64,
            "key_error": 0.1 * index,
            "value_error": 0.2,
            "seconds": 1.5,
        }
        for index in range(LAYERS)
    ]
