# SPDX-License-Identifier: Apache-2.0
"""One job's process as its supervisor sees it: start, memory, stop, and the signal that ended it."""

import os
import signal
import subprocess
import sys
import time
from typing import IO

import psutil

from core.settings import Settings
from workers.folder import JobFolder

# every library that brings its own thread pool; torch reads them once, when it is imported
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Child:
    """A process in a group of its own, so that what it starts can be stopped with it."""

    def __init__(self, settings: Settings, job_id: str, owner: str, folder: JobFolder) -> None:
        folder.root.mkdir(parents=True, exist_ok=True)
        self.peak_memory = 0
        with folder.log.open("ab") as log:
            log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {owner}\n".encode())
            log.flush()
            self._process = _start(settings, job_id, owner, log)

    def wait(self, seconds: float) -> int | None:
        """The exit code, negative for a signal, or None while it runs. Samples the memory meanwhile."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.peak_memory = max(self.peak_memory, _resident_bytes(self._process.pid))
            return None

    def ask_to_stop(self) -> None:
        """SIGTERM to the process alone: it stops at the next check between layers."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL to whatever is left of the group."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._process.wait()


def _start(settings: Settings, job_id: str, owner: str, log: IO[bytes]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "workers.run_job", job_id, owner, str(os.getpid())]
    threads = str(settings.threads or max(1, _cores() // settings.concurrency))
    environment = os.environ | dict.fromkeys(_THREAD_VARIABLES, threads)
    environment |= {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )


def _cores() -> int:
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
