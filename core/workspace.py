# SPDX-License-Identifier: Apache-2.0
"""The two folders of one run: what can be resumed, and the finished result."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from core.errors import OutputError
from core.events import Log, Sink

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
