# SPDX-License-Identifier: Apache-2.0
"""The record of every job, as the rest of the program uses it: one method is one transaction."""

import builtins
import shutil
from collections.abc import Collection, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import inspect

from core.errors import WorkbenchError
from core.events import Event, Progress
from core.fixes import Fix
from core.settings import Settings
from core.spec import JobSpec
from core.store import artefacts, bell, events, jobs, leases, presence, queries, telling
from core.store import migrate as migrations
from core.store.bell import Bell
from core.store.chat_record import ChatRecord
from core.store.clock import now
from core.store.leases import Lease
from core.store.presence import WorkerView
from core.store.session import Database
from core.store.views import ALONE, JobView, Lineage, State, StoredArtefact, StoredEvent, StoredMetric


def open_store(settings: Settings, *, migrate: bool = False) -> "Store":
    """The store of this installation; `migrate` first brings the tables up to date.

    Raises WorkbenchError when the database cannot be reached or was never set up.
    """
    if not settings.database_url:
        settings.home.mkdir(parents=True, exist_ok=True)
    store = Store(Database(settings.database), settings.jobs_dir)
    try:
        store.prepare(migrate=migrate)
    except BaseException:
        store.close()
        raise
    return store


class Store:
    """Every question and every step. Values come back frozen, errors are StateError with a hint."""

    def __init__(self, database: Database, jobs_dir: Path) -> None:
        self._db = database
        self._jobs_dir = jobs_dir
        self.chat = ChatRecord(database)

    def prepare(self, *, migrate: bool) -> None:
        """Create or update the tables, or check that they are there."""
        with self._db.connect() as connection:
            if migrate:
                migrations.upgrade(connection)
            elif not inspect(connection).has_table("jobs"):
                raise WorkbenchError(
                    "the database is not set up yet", hint="start 'mla-workbench serve' once, it does that"
                )

    def close(self) -> None:
        """Give up every connection."""
        self._db.close()

    # ---- the page, the REST API and the command line

    def submit(self, spec: JobSpec, owner: str = "", lineage: Lineage = ALONE) -> JobView:
        """Store a queued job. Ring the bell afterwards, or a worker finds it a little later."""
        with self._db.write() as session:
            return queries.get(session, jobs.submit(session, spec, owner, lineage))

    def get(self, job_id: str) -> JobView:
        """The job; raises StateError when there is none."""
        with self._db.read() as session:
            return queries.get(session, job_id)

    def list(
        self, states: Collection[State] | None = None, text: str = "", limit: int = 50, offset: int = 0
    ) -> list[JobView]:
        """Jobs, newest first; `text` is looked for in model, preset and id."""
        with self._db.read() as session:
            return queries.find(session, states, text, limit, offset)

    def count(self, states: Collection[State] | None = None, text: str = "") -> int:
        """How many jobs `list` would give without a limit."""
        with self._db.read() as session:
            return queries.count(session, states, text)

    def request_cancel(self, job_id: str) -> JobView:
        """Stop a job: at once when it waits, within a layer when it runs; raises StateError otherwise."""
        with self._db.write() as session:
            jobs.request_cancel(session, job_id)
            return queries.get(session, job_id)

    def request_pause(self, job_id: str) -> JobView:
        """Pause a job: at once when it waits, at its next step when it runs; raises StateError otherwise."""
        with self._db.write() as session:
            jobs.request_pause(session, job_id)
            return queries.get(session, job_id)

    def resume(self, job_id: str) -> JobView:
        """Queue a cancelled, failed, interrupted or paused job again, with its finished layers."""
        with self._db.write() as session:
            jobs.resume(session, job_id)
            return queries.get(session, job_id)

    def delete(self, job_id: str) -> None:
        """Forget a job no worker will touch, then remove its folder with log, work and result."""
        with self._db.write() as session:
            jobs.remove(session, job_id)
        shutil.rmtree(self._jobs_dir / job_id, ignore_errors=True)

    def waiting(self) -> builtins.list[JobView]:
        """Queued jobs in the order they are expected to start."""
        with self._db.read() as session:
            return queries.waiting(session)

    def sweep(self, sweep_id: str) -> builtins.list[JobView]:
        """The jobs of a sweep in the order they were submitted; none when there is no such sweep."""
        with self._db.read() as session:
            return queries.of_sweep(session, sweep_id)

    def events_after(self, job_id: str, cursor: int = 0, limit: int = 500) -> builtins.list[StoredEvent]:
        """Events with an id above `cursor`, oldest first."""
        with self._db.read() as session:
            return events.after(session, job_id, cursor, limit)

    def figures(self, job_id: str) -> dict[str, dict[str, object]]:
        """The data of every figure, by name."""
        with self._db.read() as session:
            return events.figures(session, job_id)

    def metrics(self, job_id: str) -> builtins.list[StoredMetric]:
        """The numbers of the job with unit and source, in the order they were first reported."""
        with self._db.read() as session:
            return events.metrics(session, job_id)

    def artefacts(self, job_id: str) -> builtins.list[StoredArtefact]:
        """The files of the result, in name order; none before the job is done."""
        with self._db.read() as session:
            return artefacts.read(session, job_id)

    def recent_models(self, limit: int = 10) -> builtins.list[str]:
        """Different models, the most recently submitted first."""
        with self._db.read() as session:
            return queries.recent_models(session, limit)

    def workers(self) -> builtins.list[WorkerView]:
        """The workers that were seen in the last seconds."""
        with self._db.read() as session:
            return presence.views(session)

    # ---- the worker that holds, or wants, a lease

    def claim(self, job_id: str, owner: str, lease_seconds: float) -> JobView | None:
        """Start a queued job; None when somebody else has it. Use a new `owner` for every claim."""
        with self._db.write() as session:
            won = jobs.claim(session, job_id, owner, lease_seconds)
            return queries.get(session, job_id) if won else None

    def look(self, job_id: str, owner: str) -> Lease:
        """How the lease stands, without renewing it."""
        with self._db.read() as session:
            return leases.look(session, job_id, owner)

    def heartbeat(
        self, job_id: str, owner: str, lease_seconds: float, peak_memory: int | None = None
    ) -> Lease:
        """Renew the lease if it is still mine."""
        with self._db.write() as session:
            return leases.heartbeat(session, job_id, owner, lease_seconds, peak_memory)

    def record(self, job_id: str, owner: str, event: Event) -> bool:
        """Store an event; False, and nothing stored, when the lease is not mine any more."""
        with self._db.write() as session:
            return leases.record(session, job_id, owner, event)

    def progress(self, job_id: str, owner: str, event: Progress) -> bool:
        """Keep the job's counters fresh without storing an event; False when the lease is not mine."""
        with self._db.write() as session:
            return leases.progress(session, job_id, owner, event)

    def enter_verifying(self, job_id: str, owner: str) -> bool:
        """running -> verifying."""
        with self._db.write() as session:
            return jobs.enter_verifying(session, job_id, owner)

    def finish(
        self,
        job_id: str,
        owner: str,
        files: Iterable[StoredArtefact],
        peak_memory: int | None = None,
    ) -> bool:
        """verifying -> done, with the files of the result."""
        with self._db.write() as session:
            return jobs.finish(session, job_id, owner, files, peak_memory)

    def cancelled(self, job_id: str, owner: str) -> bool:
        """cancelling -> cancelled."""
        with self._db.write() as session:
            return jobs.cancelled(session, job_id, owner)

    def paused(self, job_id: str, owner: str) -> bool:
        """pausing -> paused."""
        with self._db.write() as session:
            return jobs.paused(session, job_id, owner)

    def interrupt(self, job_id: str, owner: str, reason: str) -> bool:
        """Give a job back unfinished; it is queued again without counting as a loss."""
        with self._db.write() as session:
            return jobs.interrupt(session, job_id, owner, reason)

    def fail(
        self,
        job_id: str,
        owner: str,
        reason: str,
        hint: str = "",
        log_tail: str = "",
        peak_memory: int | None = None,
        fixes: Iterable[Fix] = (),
    ) -> bool:
        """End a job of mine as failed, with what a user needs to know."""
        known: dict[str, Any] = {"reason": reason, "hint": hint, "log_tail": log_tail}
        with self._db.write() as session:
            return jobs.fail(session, job_id, owner, peak_memory=peak_memory, fixes=fixes, **known)

    # ---- presence of workers

    def worker_arrived(self, name: str, device: str, slots: int) -> None:
        """A worker starts; what an earlier one of that name left behind is forgotten."""
        with self._db.write() as session:
            presence.gone(session, name)
            presence.seen(session, name, device, slots)

    def worker_seen(self, name: str, device: str, slots: int) -> None:
        """The worker is still there."""
        with self._db.write() as session:
            presence.seen(session, name, device, slots)

    def worker_works_on(self, name: str, job_id: str | None) -> None:
        """What the worker does at the moment."""
        with self._db.write() as session:
            presence.works_on(session, name, job_id)

    def ask_worker_to_stop(self, name: str) -> None:
        """The worker is being shut down: its jobs are to be given back."""
        with self._db.write() as session:
            presence.ask_to_stop(session, name)

    def worker_is_stopping(self, name: str) -> bool:
        """Whether the worker was asked to stop."""
        with self._db.read() as session:
            return presence.is_stopping(session, name)

    def worker_gone(self, name: str) -> None:
        """The worker has ended."""
        with self._db.write() as session:
            presence.gone(session, name)

    def slots(self) -> int:
        """How many jobs the workers that are there can run at once."""
        with self._db.read() as session:
            return presence.slots(session)

    # ---- whoever looks after the record

    def take_ended(self, since: datetime) -> builtins.list[JobView]:
        """Jobs that ended since then and were not told about; they count as told from here on."""
        with self._db.write() as session:
            return telling.take_ended(session, since)

    def release_expired(self) -> builtins.list[str]:
        """Take jobs from workers whose lease ran out and queue interrupted ones again; returns their ids."""
        at = now()
        with self._db.write() as session:
            released = jobs.release_expired(session, at)
            jobs.requeue_interrupted(session, at)
            return released

    def unheard(self, quiet_seconds: float = bell.QUIET_SECONDS) -> builtins.list[str]:
        """Queued jobs that should be rung now; they count as rung from here on."""
        with self._db.write() as session:
            return bell.unheard(session, quiet_seconds)


def reconcile(store: Store, ring: Bell, quiet_seconds: float = bell.QUIET_SECONDS) -> None:
    """Heal what a dead worker or a lost message left behind. Any process may call this at any time."""
    store.release_expired()
    for job_id in store.unheard(quiet_seconds):
        ring.ring(job_id)
