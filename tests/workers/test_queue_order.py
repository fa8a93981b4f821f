# SPDX-License-Identifier: Apache-2.0
"""Pause, resume and waiting for another job, with a real worker and its real processes."""

import signal

import pytest

from core.events import Log
from core.spec import JobSpec
from core.store.views import JobView, Lineage, State
from tests.workers.test_real_processes import _has_pending as has_pending
from tests.workers.worker_stack import Stack, digests

pytestmark = pytest.mark.process


def test_a_paused_job_frees_the_worker_and_continues_where_it_was(
    stack: Stack, undisturbed: JobView, spec: JobSpec
) -> None:
    job_id = stack.submit(spec)
    child = stack.freeze_in_the_middle(job_id)
    layer = stack.store.get(job_id).done
    assert stack.store.request_pause(job_id).state is State.PAUSING
    stack.wait(lambda: has_pending(child.pid, signal.SIGTERM), seconds=10)
    child.resume()
    stack.wait(lambda: stack.store.get(job_id).state is State.PAUSED, seconds=20)
    assert stack.store.get(job_id).done <= layer + 1
    assert stack.child(job_id) is None

    stack.resume(job_id)
    done = stack.ended(job_id)
    assert (done.state, done.attempt) == (State.DONE, 2), done.reason + done.log_tail
    logs = [one.event.message for one in stack.store.events_after(job_id) if isinstance(one.event, Log)]
    assert "continuing with what an earlier run finished" in logs
    assert digests(stack.result(job_id)) == digests(stack.result(undisturbed.id))


def test_a_conversion_behind_a_profile_starts_after_it_and_reads_what_it_calibrated(
    stack: Stack, spec: JobSpec
) -> None:
    """The follower is rung first, which must change nothing; later the reconciler rings by itself."""
    asked = JobSpec(kind="profile", model=spec.model, calibration=spec.calibration)
    leader = stack.store.submit(asked).id
    follower = stack.store.submit(spec, lineage=Lineage(after_id=leader)).id
    assert stack.bell.ring(follower)
    assert stack.bell.ring(leader)
    done = stack.ended(follower)
    first = stack.store.get(leader)
    assert (first.state, done.state) == (State.DONE, State.DONE), first.reason + done.reason + done.log_tail
    assert first.finished_at is not None
    assert done.started_at is not None
    assert done.started_at >= first.finished_at
    assert done.attempt == 1
    assert done.metrics["calibrated_tokens"] == 0
