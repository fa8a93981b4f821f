# SPDX-License-Identifier: Apache-2.0
"""Broker and worker for the tests of this folder, and the bytes they compare."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from app.serve.broker import forget_socket
from app.serve.keeper import Keeper
from app.serve.serve import environment_of, services
from app.services.bell import CeleryBell
from core.settings import Settings
from core.spec import JobSpec
from core.store import Store, open_store
from core.store.views import FINAL, JobView

LAYERS = 24


class Stack:
    """Broker and worker as `serve` runs them. Waiting also restarts what died, as `serve` does."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store: Store = open_store(settings, migrate=True)
        self.bell = CeleryBell(settings)
        # without the last service, the web
        self.keeper = Keeper(
            services(settings)[:-1], os.environ | environment_of(settings), settings.home / "logs"
        )
        assert self.keeper.start(lambda: False)

    def submit(self, spec: JobSpec) -> str:
        job_id = self.store.submit(spec).id
        assert self.bell.ring(job_id)
        return job_id

    def resume(self, job_id: str) -> None:
        self.store.resume(job_id)
        assert self.bell.ring(job_id)

    def wait(self, condition: Callable[[], object], seconds: float = 180.0, pause: float = 0.05) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            self.keeper.watch()
            time.sleep(pause)

    def ended(self, job_id: str, seconds: float = 300.0) -> JobView:
        self.wait(lambda: self.store.get(job_id).state in FINAL, seconds)
        return self.store.get(job_id)

    def child(self, job_id: str) -> psutil.Process | None:
        """The process that does the job's work."""
        for process in psutil.Process(self.keeper.pids["worker"]).children(recursive=True):
            words = words_of(process)
            if "workers.run_job" in words and job_id in words:
                return process
        return None

    def freeze_in_the_middle(self, job_id: str, after: int = 3) -> psutil.Process:
        """Stop the child (SIGSTOP) when it has converted some layers but not all."""

        def is_there() -> bool:
            job = self.store.get(job_id)
            return job.stage == "converting" and job.done >= after

        self.wait(is_there, pause=0.001)
        child = self.child(job_id)
        assert child is not None
        child.suspend()
        assert after <= self.store.get(job_id).done < LAYERS, "the child was too quick to be caught"
        return child

    def result(self, job_id: str) -> Path:
        return self.settings.jobs_dir / job_id / "result"

    def close(self) -> None:
        self.keeper.stop()
        forget_socket(self.settings)
        self.bell.close()
        self.store.close()


def words_of(process: psutil.Process) -> list[str]:
    """Its command line; none when it has just ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def digests(result: Path) -> dict[str, str]:
    """What must be equal byte for byte; the record and the card carry times."""
    files = [*result.glob("model*.safetensors*"), result / "config.json"]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
