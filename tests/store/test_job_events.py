# SPDX-License-Identifier: Apache-2.0
"""What a job reported comes back as it was, by cursor."""

import math
import time
from collections.abc import Callable

import pytest

from core.events import Event, Figure, Log, Metric, Progress, StageStarted
from core.spec import JobSpec
from core.store import Store


@pytest.fixture
def job(store: Store, spec: JobSpec) -> str:
    job_id = store.submit(spec).id
    store.claim(job_id, "me", 60)
    return job_id


@pytest.fixture
def record(store: Store, job: str) -> Callable[[Event], bool]:
    return lambda event: store.record(job, "me", event)


def test_events_come_back_equal_and_by_cursor(
    store: Store, job: str, record: Callable[[Event], bool]
) -> None:
    start = store.events_after(job)[-1].id
    written: list[Event] = [
        StageStarted(stage="converting", total=2),
        Progress(stage="converting", done=1, total=2, message="läyer 0 ✓"),
        Log(level="warning", message="careful"),
        Metric(name="perplexity", value=12.5, unit="ratio"),
        Figure(name="layers", data={"rows": [[1, 2.5, None]], "nested": {"a": "b"}}),
    ]
    for event in written:
        assert record(event)
    stored = store.events_after(job, start)
    assert [one.event for one in stored] == written
    assert [one.event for one in store.events_after(job, stored[2].id)] == written[3:]
    assert [one.event for one in store.events_after(job, start, limit=2)] == written[:2]
    assert all(one.at.utcoffset() is not None for one in stored)


def test_the_job_knows_where_it_is(store: Store, job: str, record: Callable[[Event], bool]) -> None:
    record(StageStarted(stage="converting", total=10))
    assert store.get(job).eta_seconds is None
    store.progress(job, "me", Progress(stage="converting", done=3, total=10, message="layer 2"))
    view = store.get(job)
    assert (view.stage, view.done, view.total, view.message) == ("converting", 3, 10, "layer 2")
    assert [event for event in store.events_after(job) if event.event.kind == "progress"] == []
    record(StageStarted(stage="verifying"))
    assert (store.get(job).done, store.get(job).total) == (0, 0)


def test_eta_is_remaining_steps_times_the_mean_step(
    store: Store, job: str, record: Callable[[Event], bool]
) -> None:
    """Four steps of at least 50 ms leave six; a busy machine stretches steps, never shortens them."""
    started = time.monotonic()
    record(StageStarted(stage="converting", total=10))
    for done in range(1, 5):
        time.sleep(0.05)
        last = time.monotonic()
        record(Progress(stage="converting", done=done, total=10))
    _assert_eta(store, job, steps=6, shortest=0.05, longest=(time.monotonic() - started) / 4, last=last)


def test_eta_does_not_count_what_an_earlier_attempt_finished(
    store: Store, job: str, record: Callable[[Event], bool]
) -> None:
    """Resumed at step 90, the 91st takes all the time there was, however slowly the 90 are gone through."""
    started = time.monotonic()
    record(StageStarted(stage="converting", total=100, finished=90))
    for done in range(1, 91):
        store.progress(job, "me", Progress(stage="converting", done=done, total=100))
        assert done % 30 or store.get(job).eta_seconds is None
    time.sleep(0.2)
    last = time.monotonic()
    record(Progress(stage="converting", done=91, total=100))
    # counting all 91 steps alike would predict a ninetieth of this
    _assert_eta(store, job, steps=9, shortest=0.2, longest=time.monotonic() - started, last=last)


def _assert_eta(store: Store, job: str, *, steps: int, shortest: float, longest: float, last: float) -> None:
    """Bounds that hold on any machine: a step took between `shortest` and `longest` seconds.

    The time since the step that ended after `last` counts as worked already.
    """
    eta = store.get(job).eta_seconds
    assert eta is not None
    # the record's clock is the wall's, ours is not: they may run apart by a percent
    assert 0.99 * (steps * shortest - (time.monotonic() - last)) <= eta <= 1.01 * steps * longest


def test_metrics_are_the_latest_values_in_first_seen_order(
    store: Store, job: str, record: Callable[[Event], bool]
) -> None:
    record(Metric(name="b", value=1, unit="nats"))
    record(Metric(name="a", value=2, source="paper"))
    record(Metric(name="b", value=3, unit="nats"))
    assert [(one.name, one.value, one.unit, one.source) for one in store.metrics(job)] == [
        ("b", 3.0, "nats", "measured"),
        ("a", 2.0, "", "paper"),
    ]
    assert store.get(job).metrics == {"b": 3.0, "a": 2.0}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_no_number_is_a_warning(
    store: Store, job: str, record: Callable[[Event], bool], value: float
) -> None:
    assert record(Metric(name="perplexity", value=value))
    assert store.get(job).metrics == {}
    last = store.events_after(job)[-1].event
    assert isinstance(last, Log)
    assert last.level == "warning"
    assert "perplexity" in last.message


def test_a_figure_of_the_same_name_replaces_the_earlier_one(
    store: Store, job: str, record: Callable[[Event], bool]
) -> None:
    record(Figure(name="layers", data={"v": 1}))
    record(Figure(name="rope", data={"v": [math.nan]}))
    record(Figure(name="layers", data={"v": 2}))
    assert store.figures(job) == {"layers": {"v": 2}, "rope": {"v": [None]}}


def test_text_may_hold_anything(store: Store, job: str, record: Callable[[Event], bool]) -> None:
    assert record(Log(message="a\x00b"))
    assert record(Progress(stage="converting", done=1, total=2, message="a\x00b"))
    assert store.fail(job, "me", "x\x00y", log_tail="\x00")
    assert store.get(job).reason == "xy"
