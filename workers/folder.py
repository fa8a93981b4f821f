# SPDX-License-Identifier: Apache-2.0
"""What lies where in the folder of one job, and how its process says how it ended."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.fixes import Fix
from core.spec import Frozen
from core.store.views import StoredArtefact
from core.workspace import Workspace

_TAIL_BYTES = 64 * 1024
# the first words of faulthandler, and of the line the supervisor puts above each attempt
_CRASH = "Fatal Python error: "
_ATTEMPT = "--- "

# exit code of a process whose last word found no room (EX_IOERR of sysexits.h)
NO_LAST_WORD = 74


class Outcome(Frozen):
    """The last word of a job's process. `owner` tells it from what an earlier attempt left behind."""

    owner: str
    end: Literal["done", "failed", "cancelled"]
    reason: str = ""
    hint: str = ""
    fixes: tuple[Fix, ...] = ()
    files: tuple[StoredArtefact, ...] = ()


@dataclass(frozen=True)
class JobFolder:
    """`log.txt` grows over all attempts, `work/` can be resumed, `result/` is finished."""

    root: Path

    @property
    def log(self) -> Path:
        return self.root / "log.txt"

    @property
    def lock(self) -> Path:
        """Held by the one process that may write here."""
        return self.root / "lock"

    @property
    def workspace(self) -> Workspace:
        return Workspace(work=self.root / "work", result=self.root / "result")

    def tail(self, lines: int = 30) -> str:
        """The last lines of the log, whatever bytes are in it; of a crash the first ones.

        A crash prints its headline and the innermost call first, then up to a hundred outer ones.
        """
        if not self.log.is_file():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            found = file.read().decode("utf-8", errors="replace").splitlines()
        marks = [at for at, line in enumerate(found) if line.startswith((_CRASH, _ATTEMPT))]
        if marks and found[marks[-1]].startswith(_CRASH):
            found = found[marks[-1] : marks[-1] + lines]
        return "\n".join(found[-lines:])

    def write_outcome(self, outcome: Outcome) -> None:
        """Leave the last word; it is there completely or not at all."""
        partial = self._outcome.with_suffix(".partial")
        partial.write_text(outcome.model_dump_json(), encoding="utf-8")
        partial.rename(self._outcome)

    def read_outcome(self, owner: str) -> Outcome | None:
        """The last word of the attempt `owner` made, or None when it ended without one."""
        if not self._outcome.is_file():
            return None
        outcome = Outcome.model_validate_json(self._outcome.read_text(encoding="utf-8"))
        return outcome if outcome.owner == owner else None

    @property
    def _outcome(self) -> Path:
        return self.root / "outcome.json"
