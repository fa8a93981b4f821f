# SPDX-License-Identifier: Apache-2.0
"""The page on a real server for browser tests, and what a person does on its form."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page

from app.services.workbench import Workbench
from core.settings import Settings
from core.store import open_store
from core.weights.locate import DEMO_FOLDER
from tests.app.conftest import CountingBell


@dataclass(frozen=True)
class Site:
    """A running server and the record behind it."""

    url: str
    bench: Workbench


@contextmanager
def running_site(home: Path, model: Path) -> Iterator[Site]:
    """uvicorn on a free port, with a tiny model in the place of the demo."""
    settings = Settings(data_dir=home, broker_url=f"redis+socket://{home}/nobody.sock?virtual_host=0")
    settings.models_dir.mkdir(parents=True)
    shutil.copytree(model, settings.models_dir / DEMO_FOLDER)
    port = free_port()
    # an open page holds its event streams: they end with the server, as under `serve`
    limits = ["--timeout-graceful-shutdown", "2"]
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--factory",
        "app.main:create_app",
        "--port",
        str(port),
        *limits,
    ]
    environment = os.environ | {"MLA_DATA_DIR": str(home), "MLA_BROKER_URL": settings.broker_url}
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_it_answers(f"{url}/healthz", server)
            with closing(open_store(settings)) as store:
                yield Site(url, Workbench(settings, store, CountingBell()))
        finally:
            server.terminate()
            server.wait(timeout=60)


def choose(page: Page, preset: str) -> None:
    page.locator("#preset label", has_text=preset).click()


def pick(page: Page, box: str, choice: str) -> None:
    """Choose from a list by what its lines begin with."""
    page.locator(f"{box} input").click()
    page.locator(f"{box} [role=option]", has_text=re.compile(f"^\\W*{re.escape(choice)}:")).click()


def drag_to(page: Page, percent: float) -> None:
    """Move the slider as a drag does: many input events, the last one counts."""
    slider = page.locator("#keep input[type=range]")
    start = float(slider.input_value())
    for step in range(1, 11):
        position = round((start + (percent - start) * step / 10) * 4) / 4
        slider.evaluate(
            "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})) }", str(position)
        )


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_answers(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert server.poll() is None, "the server ended before it answered"
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server did not answer within a minute")
