# SPDX-License-Identifier: Apache-2.0
"""Who waits for whom, what belongs together, what a failed job could change, and who still has to be told."""

from datetime import UTC, datetime, timedelta

import pytest

from core.fixes import Fix
from core.spec import JobSpec
from core.store import Store, reconcile
from core.store.views import Lineage, State
from tests.store.test_reconcile import Heard

ME = "worker@here#1"
LONG_AGO = datetime.now(UTC) - timedelta(days=1)


def after(store: Store, spec: JobSpec, leader: str) -> str:
    return store.submit(spec, lineage=Lineage(after_id=leader)).id


@pytest.mark.parametrize("end", ["done", "failed", "cancelled", "deleted"])
def test_a_job_that_waits_starts_when_the_other_has_ended(store: Store, spec: JobSpec, end: str) -> None:
    leader = store.submit(spec).id
    follower = after(store, spec, leader)
    assert store.claim(follower, "other@here#1", 60) is None
    store.claim(leader, ME, 60)
    assert store.claim(follower, "other@here#2", 60) is None
    match end:
        case "done":
            store.enter_verifying(leader, ME)
            store.finish(leader, ME, ())
        case "failed":
            store.fail(leader, ME, "broke")
        case _:
            store.request_cancel(leader)
            assert store.claim(follower, "other@here#3", 60) is None
            store.cancelled(leader, ME)
    if end == "deleted":
        store.delete(leader)
    assert store.claim(follower, "other@here#4", 60) is not None


def test_a_paused_job_keeps_those_behind_it_waiting(store: Store, spec: JobSpec) -> None:
    leader = store.submit(spec).id
    follower = after(store, spec, leader)
    store.request_pause(leader)
    assert store.claim(follower, ME, 60) is None
    store.resume(leader)
    assert store.claim(leader, ME, 60) is not None


def test_those_who_wait_are_rung_when_they_may_start_and_not_before(store: Store, spec: JobSpec) -> None:
    bell = Heard()
    store.worker_arrived("w@1", "cpu", 4)
    leader = store.submit(spec).id
    followers = [after(store, spec, leader) for _ in range(2)]
    store.claim(leader, ME, 60)
    reconcile(store, bell, quiet_seconds=0)
    assert bell.rings == []
    store.request_cancel(leader)
    store.cancelled(leader, ME)
    reconcile(store, bell, quiet_seconds=60)
    assert bell.rings == followers


def test_a_silent_worker_leaves_a_pausing_job_paused(store: Store, spec: JobSpec) -> None:
    """The person asked for a pause, not for another attempt."""
    job = store.submit(spec).id
    store.claim(job, ME, -1)
    store.request_pause(job)
    store.release_expired()
    assert store.get(job).state is State.PAUSED


def test_a_job_knows_its_sweep_and_what_it_was_cloned_from(store: Store, spec: JobSpec) -> None:
    first = store.submit(spec, lineage=Lineage(sweep_id="s")).id
    second = store.submit(spec, lineage=Lineage(sweep_id="s", parent_id=first, after_id=first)).id
    alone = store.submit(spec).id
    assert [job.id for job in store.sweep("s")] == [first, second]
    assert (store.get(second).parent_id, store.get(second).after_id) == (first, first)
    assert store.get(alone).sweep_id is None
    assert [job.id for job in store.waiting()] == [first, second, alone]
    assert [job.queue_position for job in store.list()] == [3, 2, 1]


def test_fixes_of_a_failure_are_kept_until_it_is_tried_again(store: Store, spec: JobSpec) -> None:
    job = store.submit(spec).id
    store.claim(job, ME, 60)
    fix = Fix(label="half the tokens", changes={"calibration": {"tokens": 1024}})
    store.fail(job, ME, "out of memory", fixes=[fix])
    assert store.get(job).fixes == (fix,)
    store.resume(job)
    store.claim(job, ME, 60)
    assert store.get(job).fixes == ()


def test_every_end_is_told_once(store: Store, spec: JobSpec) -> None:
    ended, waits = store.submit(spec).id, store.submit(spec).id
    store.request_cancel(ended)
    assert [job.id for job in store.take_ended(LONG_AGO)] == [ended]
    assert store.take_ended(LONG_AGO) == []
    store.resume(ended)
    store.request_cancel(ended)
    store.request_cancel(waits)
    assert [job.id for job in store.take_ended(LONG_AGO)] == [ended, waits]


def test_what_ended_long_ago_is_not_told(store: Store, spec: JobSpec) -> None:
    """Whoever switches notifications on does not want the history."""
    store.request_cancel(store.submit(spec).id)
    assert store.take_ended(datetime.now(UTC)) == []
