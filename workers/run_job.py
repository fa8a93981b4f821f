# SPDX-License-Identifier: Apache-2.0
"""The process that does the work of one job: `python -m workers.run_job ID OWNER SUPERVISOR_PID`.

Torch lives here and nowhere else in the queue, so that its memory goes back to the system with the process
and a crash takes nothing along. It leaves its last word in a file; only the supervisor ends the job.
"""

import fcntl
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from types import FrameType

from core import kinds
from core.errors import Cancelled, WorkbenchError
from core.events import Log
from core.fixes import less_device_memory, less_memory
from core.parent import die_with_parent
from core.settings import Settings, load_settings
from core.store import Store, artefacts, open_store
from workers.folder import NO_LAST_WORD, JobFolder, Outcome
from workers.insist import insist
from workers.sinks import DbSink


class SignalCancel:
    """Raises Cancelled at the next check after SIGTERM, or when the supervisor is gone."""

    def __init__(self, supervisor: int) -> None:
        self._supervisor = supervisor
        self._is_asked = False
        signal.signal(signal.SIGTERM, self._ask)
        # Ctrl-C reaches every process of a terminal; whoever started this one decides
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def check(self) -> None:
        """Asked between layers."""
        if self._is_asked:
            raise Cancelled("asked to stop")
        if os.getppid() != self._supervisor:
            raise Cancelled("the supervisor is gone")

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._is_asked = True


def main(arguments: list[str]) -> int:
    """Run the job and leave its outcome; 0 when it was done."""
    job_id, owner, supervisor = arguments[0], arguments[1], int(arguments[2])
    # elsewhere than on Linux `cancel.check` notices
    die_with_parent()
    cancel = SignalCancel(supervisor)
    settings = load_settings()
    folder = JobFolder(settings.jobs_dir / job_id)
    with closing(open_store(settings)) as store:
        sink = DbSink(store, job_id, owner, patience=settings.lease_seconds)
        try:
            with _alone(folder, sink, cancel):
                outcome = _attempt(store, job_id, owner, folder, sink, cancel, settings)
        except Cancelled:
            outcome = Outcome(owner=owner, end="cancelled")
    try:
        folder.write_outcome(outcome)
    except OSError as error:
        # a full disk takes no last word; the exit code needs no room
        _print(f"{outcome.end} {outcome.reason} {outcome.hint}, which could not be written down: {error}")
        return NO_LAST_WORD
    return 0 if outcome.end == "done" else 1


def _attempt(
    store: Store,
    job_id: str,
    owner: str,
    folder: JobFolder,
    sink: DbSink,
    cancel: SignalCancel,
    settings: Settings,
) -> Outcome:
    """Run the job once and put into words how it went."""
    spec = insist(lambda: store.get(job_id), settings.lease_seconds).spec
    try:
        # the folder appears when everything is verified: an attempt that died right after left nothing to do
        if not folder.workspace.result.exists():
            kinds.run(spec, folder.workspace, sink, cancel, settings)
        insist(lambda: store.enter_verifying(job_id, owner), settings.lease_seconds)
        files = tuple(artefacts.describe(folder.workspace.result))
    except WorkbenchError as error:
        return Outcome(owner=owner, end="failed", reason=f"{error.reason}: {error.message}", hint=error.hint)
    except MemoryError as error:
        _print(traceback.format_exc())
        return Outcome(
            owner=owner,
            end="failed",
            reason=f"out of memory: {error}" if str(error) else "out of memory",
            hint="close other programs or use a machine with more memory; Resume keeps finished layers",
            fixes=less_memory(spec),
        )
    except Cancelled:
        raise
    except Exception as error:
        # not one of ours: a bug, or something of the system. The trace goes to the log, a line to the page
        _print(traceback.format_exc())
        reason, hint = f"{type(error).__name__}: {error}", "the log below shows where it happened"
        fixes = less_device_memory(spec) if _is_out_of_device_memory(error) else ()
        return Outcome(owner=owner, end="failed", reason=reason, hint=hint, fixes=fixes)
    return Outcome(owner=owner, end="done", files=files)


def _is_out_of_device_memory(error: Exception) -> bool:
    from torch import OutOfMemoryError

    return isinstance(error, OutOfMemoryError)


def _print(text: str) -> None:
    """Into the log, whose disk may be the one that is full."""
    with suppress(OSError):
        sys.stderr.write(f"{text.rstrip()}\n")
        sys.stderr.flush()


@contextmanager
def _alone(folder: JobFolder, sink: DbSink, cancel: SignalCancel) -> Iterator[None]:
    """Wait until no earlier attempt writes to the folder: its supervisor may have died just now."""
    with folder.lock.open("w") as file:
        has_waited = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not has_waited:
                    sink.emit(Log(message="waiting for the earlier attempt to let go of the folder"))
                has_waited = True
                cancel.check()
                time.sleep(0.2)
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
