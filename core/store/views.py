# SPDX-License-Identifier: Apache-2.0
"""What the rest of the program sees of a stored job: frozen values, no database session attached."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from core.events import Event, Source
from core.fixes import Fix
from core.spec import Frozen, JobSpec


class State(StrEnum):
    """queued -> running -> verifying -> done; running -> cancelling -> cancelled;
    running -> pausing -> paused, queued -> paused; running -> interrupted -> queued (lease lost, or on
    request); anything -> failed."""

    QUEUED = "queued"
    RUNNING = "running"
    VERIFYING = "verifying"
    DONE = "done"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    PAUSING = "pausing"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


ACTIVE = frozenset({State.RUNNING, State.VERIFYING, State.CANCELLING, State.PAUSING})
FINAL = frozenset({State.DONE, State.CANCELLED, State.FAILED})
RESUMABLE = frozenset({State.CANCELLED, State.FAILED, State.INTERRUPTED, State.PAUSED})
# what no worker will touch before somebody asks for it
DELETABLE = FINAL | {State.PAUSED}


class Lineage(Frozen):
    """How a job is related to others."""

    sweep_id: str | None = Field(None, description="the sweep it belongs to")
    parent_id: str | None = Field(None, description="the job it was cloned from")
    after_id: str | None = Field(None, description="it waits until that job has ended")


ALONE = Lineage()


class JobView(Frozen):
    """One job as stored."""

    id: str
    state: State
    spec: JobSpec
    owner: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempt: int = Field(description="how many times a worker has started it")
    stage: str = Field(description="current or last stage, empty before the first")
    done: int = Field(description="finished steps of the stage")
    total: int = Field(description="steps of the stage, 0 when unknown")
    message: str = Field(description="last line of progress")
    eta_seconds: float | None = Field(description="predicted remaining time of the stage")
    queue_position: int | None = Field(description="1 is next; None unless queued")
    reason: str = Field(description="why it failed or was interrupted")
    hint: str = Field(description="what to change")
    log_tail: str = Field(description="last log lines of a failed attempt")
    peak_memory_bytes: int | None
    metrics: dict[str, float]
    sweep_id: str | None = Field(None, description="the sweep it belongs to")
    parent_id: str | None = Field(None, description="the job it was cloned from")
    after_id: str | None = Field(None, description="it waits until that job has ended")
    fixes: tuple[Fix, ...] = Field((), description="changes of the spec that may help a failed job")


class StoredEvent(Frozen):
    """One event with its cursor; `id` grows with time."""

    id: int
    at: datetime
    event: Event


class StoredMetric(Frozen):
    """One number of a result and where it comes from."""

    name: str
    value: float
    unit: str
    source: Source


class StoredArtefact(Frozen):
    """One file of a finished job's result folder."""

    name: str
    size: int
    sha256: str
