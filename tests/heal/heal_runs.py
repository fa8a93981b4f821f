# SPDX-License-Identifier: Apache-2.0
"""Heal a tiny conversion in this process or in one that is killed, and look at what came out."""

import hashlib
import multiprocessing
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import Cancelled
from core.events import Cancel, Event, NeverCancel
from core.kinds import run
from core.settings import Settings
from core.spec import JobSpec, parse_spec
from core.workspace import Workspace

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["core.heal.job", "core.export.verify", "core.evaluate.kv_memory"])


@dataclass
class Heard:
    """Keeps every event; at the n-th of `kill_at` = (kind, n) the process is gone, at `stop_at` it stops."""

    kill_at: tuple[str, int] | None = None
    events: list[Event] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        self.events.append(event)
        if self.kill_at and (event.kind, len(self.of(event.kind))) == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.events if event.kind == kind]

    @property
    def metrics(self) -> dict[str, float]:
        return {event.name: event.value for event in self.of("metric")}

    @property
    def curve(self) -> dict[str, Any]:
        found: dict[str, Any] = [one.data for one in self.of("figure") if one.name == "healing_curve"][-1]
        return found


class CancelAfter:
    """Raises at the n-th check."""

    def __init__(self, checks: int) -> None:
        self.left = checks

    def check(self) -> None:
        self.left -= 1
        if self.left <= 0:
            raise Cancelled


def heal_spec(converted: Path, base: Path, text: Path, **healing: Any) -> JobSpec:
    """A small healing that is not measured at the end; a rate at which a random model learns."""
    usual: dict[str, Any] = {
        "source": str(converted),
        "text": str(text),
        "tokens": 64 * 4 * 8,
        "context": 64,
        "held_out": 4,
        "evaluations": 4,
        "learning_rate": 2e-2,
        "top_k": 16,
        "precision": "float32",
    }
    return parse_spec(
        {"kind": "heal", "model": str(base), "evaluation": None, "heal": usual | healing, "device": "cpu"}
    )


def heal_to(
    spec: JobSpec, folder: Path, name: str = "out", sink: Heard | None = None, cancel: Cancel | None = None
) -> tuple[Path, Heard]:
    """(result folder, what was said); everything lies in `folder`, with the teacher's cache."""
    sink = sink or Heard()
    workspace = Workspace(work=folder / f"{name}.partial", result=folder / name)
    run(spec, workspace, sink, cancel or NeverCancel(), Settings(data_dir=folder / "home"))
    return workspace.result, sink


def heal_and_die(spec: JobSpec, folder: Path, name: str, kill_at: tuple[str, int]) -> int | None:
    """In a process that ends itself by SIGKILL at an event; returns its exit code."""
    process = _CONTEXT.Process(target=heal_to, args=(spec, folder, name, Heard(kill_at)))
    process.start()
    process.join()
    return process.exitcode


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file by name."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.iterdir()
        if file.is_file()
    }
