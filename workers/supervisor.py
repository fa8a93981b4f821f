# SPDX-License-Identifier: Apache-2.0
"""Look after one job: claim it, start its process, keep the lease, pass on a cancel, end it.

Nothing is computed here, so a conversion that hangs, swells or crashes cannot take the lease with it.
"""

import logging
import secrets
import signal
import time
from contextlib import closing

import psutil

from core.fixes import Fix, less_memory
from core.settings import Settings
from core.store import DatabaseUnavailable, Store, open_store
from workers.child import Child
from workers.folder import NO_LAST_WORD, JobFolder, Outcome
from workers.insist import insist

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
# a layer of a large model takes about this long; what it had not finished is redone anyway
CANCEL_GRACE_SECONDS = 20.0
# a shutdown waits less: the machine may be about to go
STOP_GRACE_SECONDS = 4.0


def supervise(settings: Settings, job_id: str, worker: str) -> None:
    """Run the job to an end if it can be claimed; a second message for the same job changes nothing."""
    with closing(open_store(settings)) as store:
        owner = f"{worker}#{secrets.token_hex(4)}"
        if store.claim(job_id, owner, settings.lease_seconds) is None:
            logger.info("job %s is not waiting: nothing to do", job_id)
            return
        store.worker_works_on(worker, job_id)
        try:
            Supervisor(settings, store, job_id, owner, worker).run()
        finally:
            store.worker_works_on(worker, None)


class Supervisor:
    """One attempt at one job, from the claim to the end."""

    def __init__(self, settings: Settings, store: Store, job_id: str, owner: str, worker: str) -> None:
        self._settings = settings
        self._store = store
        self._job_id = job_id
        self._owner = owner
        self._worker = worker
        self._folder = JobFolder(settings.jobs_dir / job_id)
        self._must_cancel = False
        self._must_stop = False
        self._is_lost = False
        self._lease_ends = time.monotonic() + settings.lease_seconds
        self._next_beat = 0.0
        self._kill_at: float | None = None

    def run(self) -> None:
        """Start the process, stay with it, and say in the record how it ended."""
        try:
            child = Child(self._settings, self._job_id, self._owner, self._folder)
        except OSError as error:
            reason, hint = f"its process could not be started: {error}", self._room()
            insist(lambda: self._fail(reason, hint, None), self._settings.lease_seconds)
            return
        try:
            code = self._stay_with(child)
        finally:
            child.kill()
        if self._is_lost:
            logger.warning("job %s: the lease is lost, its process is stopped", self._job_id)
            return
        insist(lambda: self._end(code, child.peak_memory or None), self._settings.lease_seconds)

    def _stay_with(self, child: Child) -> int:
        """Wait for the exit code; meanwhile keep the lease and pass on what others want."""
        while (code := child.wait(POLL_SECONDS)) is None:
            self._keep_lease(child)
            if self._is_lost:
                child.kill()
            elif (self._must_cancel or self._must_stop) and self._kill_at is None:
                child.ask_to_stop()
                grace = STOP_GRACE_SECONDS if self._must_stop else CANCEL_GRACE_SECONDS
                self._kill_at = time.monotonic() + grace
            elif self._kill_at is not None and time.monotonic() > self._kill_at:
                child.kill()
        return code

    def _keep_lease(self, child: Child) -> None:
        """Look, and every few seconds renew. Without a database the lease is lost when it would end."""
        at = time.monotonic()
        try:
            if at >= self._next_beat:
                lease = self._store.heartbeat(
                    self._job_id, self._owner, self._settings.lease_seconds, child.peak_memory or None
                )
                self._store.worker_works_on(self._worker, self._job_id)
                self._lease_ends = at + self._settings.lease_seconds
                self._next_beat = at + self._settings.heartbeat_seconds
            else:
                lease = self._store.look(self._job_id, self._owner)
            self._is_lost = not lease.still_mine
            self._must_cancel = lease.stop_requested
            self._must_stop = self._must_stop or self._store.worker_is_stopping(self._worker)
        except DatabaseUnavailable as error:
            logger.warning("job %s: %s", self._job_id, error)
            self._is_lost = at > self._lease_ends

    def _end(self, code: int, peak: int | None) -> None:
        """The one place where an attempt ends. What a person asked for goes before how the process ended."""
        outcome = self._folder.read_outcome(self._owner)
        is_done = outcome is not None and outcome.end == "done"
        if is_done and outcome and self._store.finish(self._job_id, self._owner, outcome.files, peak):
            return
        if self._store.cancelled(self._job_id, self._owner) or self._store.paused(self._job_id, self._owner):
            return
        if outcome is not None and outcome.end == "failed":
            self._fail(outcome.reason, outcome.hint, peak, outcome.fixes)
        elif self._must_stop:
            self._store.interrupt(self._job_id, self._owner, "the worker was shut down")
        elif outcome is not None and outcome.end == "cancelled":
            self._store.interrupt(self._job_id, self._owner, "its process was told to stop from outside")
        else:
            killed = code == -signal.SIGKILL
            fixes = less_memory(self._store.get(self._job_id).spec) if killed else ()
            self._fail(*self._unspoken(code, outcome, peak), peak, fixes)

    def _fail(self, reason: str, hint: str, peak: int | None, fixes: tuple[Fix, ...] = ()) -> None:
        self._store.fail(self._job_id, self._owner, reason, hint, self._folder.tail(), peak, fixes)

    def _room(self) -> str:
        """What to do about a data folder that takes no files."""
        home = self._settings.home
        free = _gb(psutil.disk_usage(str(home)).free)
        return f"free space in {home} ({free} free) and check its permissions; Resume keeps finished layers"

    def _unspoken(self, code: int, outcome: Outcome | None, peak: int | None) -> tuple[str, str]:
        """(reason, hint) of a process that ended without a last word."""
        job = self._store.get(self._job_id)
        where = f" during {job.stage}" if job.stage else " before the first stage"
        step = f", step {min(job.done + 1, job.total)} of {job.total}" if job.total else ""
        if code == -signal.SIGKILL:
            used = f"; its peak was {_gb(peak)}" if peak else ""
            total = _gb(psutil.virtual_memory().total)
            return (
                f"killed (signal 9){where}{step}",
                f"the system kills what takes too much memory{used} of {total}. "
                "Resume continues after the last finished layer",
            )
        if code < 0:
            name = signal.Signals(-code).name
            return f"ended by {name} (signal {-code}){where}{step}", "the log below may show where it crashed"
        if code == NO_LAST_WORD:
            return (
                f"its result could not be written down{where}{step}: the disk is full or fails",
                self._room(),
            )
        word = "" if outcome is None else f" after it said '{outcome.end}'"
        return f"ended with exit code {code}{word}{where}{step}", "the log below may show why"


def _gb(size: int | None) -> str:
    return f"{(size or 0) / 1e9:.1f} GB"
