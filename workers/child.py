# SPDX-License-Identifier: Apache-2.0
"""A process as its supervisor sees it: start, memory, stop, and the signal that ended it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import psutil

from core.settings import Settings
from workers.folder import JobFolder

# every library that brings its own thread pool; torch reads them once, when it is imported
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Process:
    """A process in a group of its own, so that what it starts can be stopped with it."""

    def __init__(self, command: Sequence[str], threads: int, log: Path, title: str) -> None:
        self.memory = self.peak_memory = 0
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            file.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {title}\n".encode())
            file.flush()
            self._process = _start(command, threads, file)

    def wait(self, seconds: float) -> int | None:
        """The exit code, negative for a signal, or None while it runs. Samples the memory meanwhile."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.memory = _resident_bytes(self._process.pid)
            self.peak_memory = max(self.peak_memory, self.memory)
            return None

    def ask_to_stop(self) -> None:
        """SIGTERM to the process alone: it stops at the next check."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL to whatever is left of the group."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._process.wait()


class Child(Process):
    """The process of one job."""

    def __init__(self, settings: Settings, job_id: str, owner: str, folder: JobFolder) -> None:
        command = [sys.executable, "-m", "workers.run_job", job_id, owner, str(os.getpid())]
        threads = settings.threads or max(1, cores() // settings.concurrency)
        super().__init__(command, threads, folder.log, owner)


def _start(command: Sequence[str], threads: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
    environment = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(threads))
    environment |= {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )


def cores() -> int:
    """Cores this process may use, which in a container are fewer than the machine has."""
    return len(psutil.Process().cpu_affinity()) if psutil.LINUX else os.cpu_count() or 1


def _resident_bytes(pid: int) -> int:
    """Resident memory of the process and everything it started."""
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    return sum(_resident_of(process) for process in processes)


def _resident_of(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
