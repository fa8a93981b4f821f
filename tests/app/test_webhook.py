# SPDX-License-Identifier: Apache-2.0
"""A job that ends is told once, to a real server; an address that refuses or is away harms nothing."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.main import create_api
from app.services.telling import tell_ended
from app.services.workbench import Workbench
from core.errors import SpecError
from core.settings import Settings, load_settings
from core.spec import JobSpec
from tests.app.conftest import CountingBell, finish_job


@dataclass
class Receiver:
    """What arrived, and the status it is answered with."""

    url: str = ""
    status: int = 204
    bodies: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(found.status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def with_webhook(bench: Workbench, url: str) -> Workbench:
    settings = bench.settings.model_copy(update={"webhook_url": url})
    return Workbench(settings, bench.store, bench.bell)


def test_every_end_is_told_with_its_figures_and_once(bench: Workbench, receiver: Receiver) -> None:
    told = with_webhook(bench, receiver.url)
    done = finish_job(bench, {"config.json": b"{}"})
    failed = bench.store.submit(JobSpec()).id
    bench.store.claim(failed, "worker", 60)
    bench.store.fail(failed, "worker", "out of memory", "try less")
    bench.store.submit(JobSpec())
    for _ in range(2):
        tell_ended(told)
    assert [one["job"]["id"] for one in receiver.bodies] == [done, failed]
    first, second = receiver.bodies
    assert (first["event"], first["job"]["state"], first["address"]) == ("job.ended", "done", f"/jobs/{done}")
    assert first["job"]["metrics"]["perplexity_ratio"] == 130.0
    assert (second["job"]["state"], second["job"]["reason"]) == ("failed", "out of memory")


def test_a_refusal_is_logged_without_the_address(
    bench: Workbench, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Its path may be the secret, as it is for common chat rooms."""
    receiver.status = 500
    finish_job(bench, {"config.json": b"{}"})
    tell_ended(with_webhook(bench, receiver.url + "/secret-path"))
    tell_ended(with_webhook(bench, "http://127.0.0.1:1/secret-path"))
    assert len(receiver.bodies) == 1
    assert "500" in caplog.text
    assert "secret-path" not in caplog.text


def test_the_web_process_tells_by_itself(settings: Settings, bell: CountingBell, receiver: Receiver) -> None:
    told = settings.model_copy(update={"webhook_url": receiver.url})
    with TestClient(create_api(told, bell)) as client:
        workbench: Workbench = client.app.state.workbench  # type: ignore[attr-defined]
        job = finish_job(workbench, {"config.json": b"{}"})
        deadline = time.monotonic() + 30
        while not receiver.bodies and time.monotonic() < deadline:
            time.sleep(0.05)
    assert [one["job"]["id"] for one in receiver.bodies] == [job]


def test_an_address_that_is_none_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLA_WEBHOOK_URL", "ftp://example.invalid/x")
    with pytest.raises(SpecError, match="MLA_WEBHOOK_URL"):
        load_settings()
