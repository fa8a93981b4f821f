# SPDX-License-Identifier: Apache-2.0
"""The sink of a running job: few rows, fresh counters, readable log."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import Cancelled
from core.events import Figure, Log, Metric, Progress, StageStarted
from core.settings import Settings
from core.spec import JobSpec
from core.store import Store, open_store
from core.store.views import State
from workers.sinks import DbSink


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(Settings(data_dir=tmp_path), migrate=True)
    yield store
    store.close()


@pytest.fixture
def job(store: Store) -> str:
    job_id = store.submit(JobSpec()).id
    store.claim(job_id, "me", 60)
    return job_id


def test_steps_make_few_rows_and_fresh_counters(store: Store, job: str) -> None:
    sink = DbSink(store, job, "me", patience=0, log=io.StringIO())
    sink.emit(StageStarted(stage="converting", total=100))
    for done in range(1, 51):
        sink.emit(Progress(stage="converting", done=done, total=100))
        assert store.get(job).done == done
    rows = [one.event.done for one in store.events_after(job) if one.event.kind == "progress"]
    assert rows[0] == 1
    assert len(rows) < 10
    sink.emit(Progress(stage="converting", done=100, total=100))
    sink.emit(StageStarted(stage="measuring", total=2))
    sink.emit(Progress(stage="measuring", done=1, total=2))
    rows = [one.event.done for one in store.events_after(job) if one.event.kind == "progress"]
    assert rows[-2:] == [100, 1]


def test_the_log_is_for_humans_and_leaves_figures_out(store: Store, job: str) -> None:
    log = io.StringIO()
    sink = DbSink(store, job, "me", patience=0, log=log)
    sink.emit(StageStarted(stage="converting", total=2))
    sink.emit(Progress(stage="converting", done=1, total=2, message="layer 0"))
    sink.emit(Log(level="warning", message="careful"))
    sink.emit(Metric(name="perplexity", value=12.5, unit="ratio"))
    sink.emit(Figure(name="layers", data={}))
    lines = [line.split(" ", 1)[1] for line in log.getvalue().splitlines()]
    assert lines == [
        "converting (2 steps)",
        "converting 1/2 layer 0",
        "warning: careful",
        "perplexity = 12.5 ratio",
    ]


def test_verifying_is_a_state(store: Store, job: str) -> None:
    DbSink(store, job, "me", patience=0, log=io.StringIO()).emit(StageStarted(stage="verifying"))
    assert store.get(job).state is State.VERIFYING
    assert store.get(job).stage == "verifying"


def test_without_the_lease_the_job_stops(store: Store, job: str) -> None:
    sink = DbSink(store, job, "somebody else", patience=0, log=io.StringIO())
    with pytest.raises(Cancelled):
        sink.emit(Log(message="hello"))
