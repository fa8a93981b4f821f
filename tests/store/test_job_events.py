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
    """Four steps of 50 ms leave six, so 0.3 s; a busy machine stretches steps, never shortens them."""
    record(StageStarted(stage="converting", total=10))
    started = time.monotonic()
    for done in range(1, 5):
        time.sleep(0.05)
        record(Progress(stage="converting", done=done, total=10))
    spent = time.monotonic() - started
    eta = store.get(job).eta_seconds
    assert eta is not None
    # the record reads its own clock a few milliseconds before and after ours
    assert 0.6 * 6 * spent / 4 < eta < 1.2 * 6 * spent / 4


def test_eta_does_not_count_what_an_earlier_attempt_finished(
    store: Store, job: str, record: Callable[[Event], bool]
) -> None:
    """Resumed at step 90, the 91st takes all the time there was: nine more take nine times that."""
    record(StageStarted(stage="converting", total=100))
    started = time.monotonic()
    for done in range(1, 91):
        store.progress(job, "me", Progress(stage="converting", done=done, total=100))
    assert store.get(job).eta_seconds is None
    time.sleep(0.2)
    record(Progress(stage="converting", done=91, total=100))
    spent = time.monotonic() - started
    eta = store.get(job).eta_seconds
    assert eta is not None
    # counting all 91 steps alike would predict a ninetieth of this; the slack is for a busy machine
    assert 0.7 * 9 * spent < eta < 1.3 * 9 * spent


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
