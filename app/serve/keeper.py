# SPDX-License-Identifier: Apache-2.0
"""Keep a few processes running: start in order, restart what dies, stop all of them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import WorkbenchError

_LEASH = Path(__file__).with_name("leash.py")
_LOG_BYTES = 20_000_000
# a process that ran this long was healthy: its next death is a new story
_HEALTHY_SECONDS = 60.0
_LONGEST_PAUSE = 30.0


@dataclass(frozen=True)
class Service:
    """A program to keep running. `is_ready` is asked until it says yes."""

    name: str
    command: Sequence[str]
    is_ready: Callable[[], bool]


@dataclass
class Kept:
    """A service and its process of the moment. The process leads a group of its own."""

    service: Service
    process: subprocess.Popen[bytes]
    started_at: float = field(default_factory=time.monotonic)
    deaths: int = 0
    restart_at: float | None = None


class Keeper:
    """Owns the processes it started, and no others."""

    def __init__(self, services: Sequence[Service], environment: dict[str, str], logs: Path) -> None:
        self._services = services
        self._environment = environment
        self._logs = logs
        self._kept: list[Kept] = []

    @property
    def pids(self) -> dict[str, int]:
        """The process of each service by name."""
        return {kept.service.name: kept.process.pid for kept in self._kept}

    def start(self, should_stop: Callable[[], bool], seconds: float = 60.0) -> bool:
        """Start each service when the one before it is ready; False when asked to stop meanwhile.

        Raises WorkbenchError with the end of its log when one does not get ready.
        """
        for service in self._services:
            kept = Kept(service, self._launch(service))
            self._kept.append(kept)
            deadline = time.monotonic() + seconds
            while not service.is_ready():
                if should_stop():
                    return False
                if kept.process.poll() is not None or time.monotonic() > deadline:
                    raise self._failed(kept)
                time.sleep(0.05)
        return True

    def watch(self) -> list[str]:
        """Restart what has died, after a pause that grows; returns what there is to tell."""
        at = time.monotonic()
        return [line for kept in self._kept for line in self._look_after(kept, at)]

    def stop(self, seconds: float = 8.0) -> None:
        """SIGTERM in reverse order, each waiting for the later ones, then SIGKILL to what is left."""
        deadline = time.monotonic() + seconds
        later = self._kept[1:]
        _end([kept.process for kept in later], deadline)
        _end([kept.process for kept in self._kept[:1]], max(deadline, time.monotonic() + 1.0))
        for kept in self._kept:
            _kill_group(kept.process)
        self._kept = []

    def _look_after(self, kept: Kept, at: float) -> list[str]:
        name = kept.service.name
        if kept.restart_at is not None:
            if at < kept.restart_at:
                return []
            kept.process, kept.started_at, kept.restart_at = self._launch(kept.service), at, None
            return [f"the {name} is started again"]
        code = kept.process.poll()
        if code is None:
            return []
        # what it left behind would work on beside its successor
        _kill_group(kept.process)
        kept.deaths = 1 if at - kept.started_at > _HEALTHY_SECONDS else kept.deaths + 1
        kept.restart_at = at + min(_LONGEST_PAUSE, 0.25 * 2 ** (kept.deaths - 1))
        return [f"the {name} ended with code {code}, see {self._log_of(kept.service)}"]

    def _launch(self, service: Service) -> subprocess.Popen[bytes]:
        self._logs.mkdir(parents=True, exist_ok=True)
        path = self._log_of(service)
        if path.is_file() and path.stat().st_size > _LOG_BYTES:
            path.replace(path.with_suffix(".old"))
        leash = [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid())]
        with path.open("ab") as log:
            return subprocess.Popen(
                [*leash, *service.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )

    def _log_of(self, service: Service) -> Path:
        return self._logs / f"{service.name}.log"

    def _failed(self, kept: Kept) -> WorkbenchError:
        path = self._log_of(kept.service)
        tail = "\n".join(path.read_text(errors="replace").splitlines()[-15:])
        return WorkbenchError(f"the {kept.service.name} did not start:\n{tail}", hint=f"all of it: {path}")


def _end(processes: Sequence[subprocess.Popen[bytes]], deadline: float) -> None:
    """SIGTERM to all, then wait for each until the deadline."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            continue  # killed with its group by the caller


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to what is left of the process's group, then reap it."""
    with contextlib.suppress(ProcessLookupError):  # the group may be empty already
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
