# SPDX-License-Identifier: Apache-2.0
"""Start `serve` as a user does and see every process it has."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil

from app.serve.serve import environment_of
from core.settings import Settings


class Serving:
    """One running `python -m app.serve`."""

    def __init__(self, settings: Settings, output: Path) -> None:
        self.settings = settings
        self.output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app.serve"],
                env=os.environ | environment_of(settings),
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def text(self) -> str:
        return self.output.read_text()

    def wait(self, condition: Callable[[], object], seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.text
            time.sleep(0.05)

    def wait_for_page(self) -> str:
        """The URL it prints, once it prints it."""
        self.wait(lambda: "http://" in self.text or self.process.poll() is not None)
        assert self.process.poll() is None, self.text
        return next(word for word in self.text.split() if word.startswith("http://"))

    def family(self) -> list[psutil.Process]:
        """Every process it started, and what those started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def part(self, word: str) -> psutil.Process | None:
        """Its direct child whose command line has `word` in it."""
        for process in psutil.Process(self.process.pid).children():
            if any(word in argument for argument in words_of(process)):
                return process
        return None

    def close(self) -> None:
        """End it whatever state it is in."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def words_of(process: psutil.Process) -> list[str]:
    """Its command line; none when it has just ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def answers(url: str) -> bool:
    try:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{url}/healthz", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False
