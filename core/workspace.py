# SPDX-License-Identifier: Apache-2.0
"""The two folders of one run: what can be resumed, and the finished result."""

import fcntl
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.errors import OutputError
from core.events import Cancel, Log, Sink

# names the conversion that a work folder belongs to
_MARK = "fingerprint"


@dataclass(frozen=True)
class Workspace:
    """`work` holds partial files and survives a crash; `result` appears by one rename at the end."""

    work: Path
    result: Path


def own_work(workspace: Workspace, fingerprint: str, sink: Sink) -> None:
    """Continue our own partial work, start over when it is of another model, text or recipe.

    Raises OutputError when the work folder holds anything that is not ours: nothing of a user is removed.
    """
    mark = workspace.work / _MARK
    found = [entry for entry in workspace.work.iterdir() if not entry.name.startswith(".")]
    if found and not mark.is_file():
        raise OutputError(
            f"'{workspace.work}' exists and was not made by a conversion",
            hint="choose another output folder, or move that folder away",
            field="out",
        )
    if found and mark.read_text() != fingerprint:
        sink.emit(Log(level="warning", message="partial work of another conversion was found: starting over"))
        for entry in found:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    elif (workspace.work / "manifest.json").is_file():
        sink.emit(Log(message="continuing with what an earlier run finished"))
    mark.write_text(fingerprint)


@contextmanager
def only_one(lock: Path, sink: Sink, cancel: Cancel) -> Iterator[None]:
    """Wait until no other process holds `lock`; it stays behind as an empty file. Raises Cancelled."""
    with lock.open("w") as file:
        has_waited = False
        while not _take(file.fileno()):
            if not has_waited:
                sink.emit(Log(message="another process is at the same work: waiting for what it finds"))
            has_waited = True
            cancel.check()
            time.sleep(0.2)
        yield


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
