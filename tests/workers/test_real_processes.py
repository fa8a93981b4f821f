# SPDX-License-Identifier: Apache-2.0
"""Whatever is killed, the job ends done and its bytes are those of an undisturbed run."""

import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from core.events import Log
from core.spec import JobSpec
from core.store.views import JobView, State
from tests.workers.worker_stack import LAYERS, Stack, digests

pytestmark = pytest.mark.process


def test_a_job_runs_once_however_often_it_is_rung(stack: Stack, undisturbed: JobView) -> None:
    assert undisturbed.state is State.DONE, undisturbed.reason + undisturbed.log_tail
    assert undisturbed.attempt == 1
    assert undisturbed.peak_memory_bytes is not None
    # torch alone takes more than this
    assert undisturbed.peak_memory_bytes > 100e6
    assert (
        undisturbed.metrics["kv_bytes_per_token_formula"]
        == undisturbed.metrics["kv_bytes_per_token_measured"]
    )
    assert {"layers", "rope_contribution"} <= set(stack.store.figures(undisturbed.id))


def test_the_files_of_a_done_job_are_the_recorded_ones(stack: Stack, undisturbed: JobView) -> None:
    recorded = {one.name: (one.size, one.sha256) for one in stack.store.artefacts(undisturbed.id)}
    result = stack.result(undisturbed.id)
    assert set(recorded) == {
        path.relative_to(result).as_posix() for path in result.rglob("*") if path.is_file()
    }
    for name, digest in digests(result).items():
        assert recorded[name] == ((result / name).stat().st_size, digest)


def test_progress_is_throttled_but_ends_with_the_last_step(stack: Stack, undisturbed: JobView) -> None:
    events = [one for one in stack.store.events_after(undisturbed.id) if one.event.kind == "progress"]
    steps = [(one.at, one.event.done) for one in events if one.event.stage == "converting"]
    assert steps[-1][1] == LAYERS
    moments = [at for at, _ in steps[:-1]]
    apart = [(later - earlier).total_seconds() for earlier, later in pairwise(moments)]
    # half a second between rows by the child's clock; the record reads its own a little later
    assert all(seconds > 0.4 for seconds in apart)


def test_kill_9_of_the_child_is_reported_and_resumed(
    stack: Stack, undisturbed: JobView, spec: JobSpec
) -> None:
    job_id = stack.submit(spec)
    child = stack.freeze_in_the_middle(job_id)
    step = stack.store.get(job_id).done + 1
    stack.wait(lambda: stack.store.get(job_id).peak_memory_bytes)
    child.kill()
    failed = stack.ended(job_id, seconds=5)
    assert failed.state is State.FAILED
    assert failed.reason == f"killed (signal 9) during converting, step {step} of {LAYERS}"
    assert "memory" in failed.hint
    assert "GB" in failed.hint
    assert "Resume" in failed.hint
    # its windows and tokens are as few as they may be already
    assert [fix.changes for fix in failed.fixes] == [{"shard_bytes": 1_000_000_000}]
    assert f"converting {step - 1}/{LAYERS}" in failed.log_tail
    assert len(failed.log_tail.splitlines()) <= 30
    assert failed.peak_memory_bytes is not None
    assert failed.peak_memory_bytes > 100e6

    stack.resume(job_id)
    done = stack.ended(job_id)
    assert done.state is State.DONE, done.reason + done.log_tail
    assert done.attempt == 2
    assert (done.reason, done.hint, done.log_tail) == ("", "", "")
    logs = [one.event.message for one in stack.store.events_after(job_id) if isinstance(one.event, Log)]
    assert "continuing with what an earlier run finished" in logs
    assert digests(stack.result(job_id)) == digests(stack.result(undisturbed.id))


def test_kill_9_of_the_whole_worker_heals_by_itself(
    stack: Stack, undisturbed: JobView, spec: JobSpec
) -> None:
    job_id = stack.submit(spec)
    child = stack.freeze_in_the_middle(job_id)
    worker = stack.keeper.pids["worker"]
    os.killpg(worker, signal.SIGKILL)
    # the kernel ends the child with its supervisor: two must never work in one folder
    stack.wait(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, seconds=2)
    done = stack.ended(job_id)
    assert done.state is State.DONE, done.reason + done.log_tail
    assert done.attempt == 2
    assert stack.keeper.pids["worker"] != worker
    assert digests(stack.result(job_id)) == digests(stack.result(undisturbed.id))


def test_kill_9_of_the_broker_is_not_noticed_by_the_job(
    stack: Stack, undisturbed: JobView, spec: JobSpec, tmp_path: Path
) -> None:
    job_id = stack.submit(spec)
    child = stack.freeze_in_the_middle(job_id)
    os.kill(stack.keeper.pids["broker"], signal.SIGKILL)
    # nobody restarts the broker before the next wait: a job submitted now waits, and the page does not
    started = time.monotonic()
    unheard = stack.store.submit(JobSpec(model=str(tmp_path / "missing"))).id
    assert not stack.bell.ring(unheard)
    assert time.monotonic() - started < 1.0
    child.resume()
    done = stack.ended(job_id)
    assert done.state is State.DONE, done.reason + done.log_tail
    assert done.attempt == 1
    assert digests(stack.result(job_id)) == digests(stack.result(undisturbed.id))
    # the message was lost, the row was not
    assert stack.ended(unheard).state is State.FAILED


def test_cancel_answers_at_once_and_stops_within_a_layer(stack: Stack, spec: JobSpec) -> None:
    job_id = stack.submit(spec)
    child = stack.freeze_in_the_middle(job_id)
    layer = stack.store.get(job_id).done
    started = time.monotonic()
    assert stack.store.request_cancel(job_id).state is State.CANCELLING
    assert time.monotonic() - started < 0.5
    # the child is frozen in a layer, so the signal waits for it
    stack.wait(lambda: _has_pending(child.pid, signal.SIGTERM), seconds=5)
    child.resume()
    cancelled = stack.ended(job_id, seconds=5)
    assert cancelled.state is State.CANCELLED
    assert cancelled.done <= layer + 1
    assert stack.child(job_id) is None


def test_an_orderly_stop_gives_the_job_back(stack: Stack, spec: JobSpec) -> None:
    """Without this a restart would wait for the lease to run out, and three restarts would fail the job."""
    job_id = stack.submit(spec)
    child = stack.freeze_in_the_middle(job_id)
    worker = stack.keeper.pids["worker"]
    os.kill(worker, signal.SIGTERM)
    stack.wait(lambda: _has_pending(child.pid, signal.SIGTERM), seconds=5)
    child.resume()
    stack.wait(lambda: stack.keeper.pids["worker"] != worker, seconds=10)
    stack.wait(lambda: stack.store.get(job_id).attempt == 2, seconds=15)
    logs = [one.event.message for one in stack.store.events_after(job_id) if isinstance(one.event, Log)]
    assert "the worker was shut down" in logs
    assert "its worker fell silent" not in logs
    stack.store.request_cancel(job_id)
    assert stack.ended(job_id).state is State.CANCELLED


def test_a_supervisor_that_lost_its_lease_stops_its_child_and_leaves(stack: Stack, spec: JobSpec) -> None:
    job_id = stack.submit(spec)
    child = stack.freeze_in_the_middle(job_id)
    supervisor = psutil.Process(child.ppid())
    supervisor.suspend()
    stack.wait(lambda: stack.store.get(job_id).state is State.QUEUED, seconds=15)
    supervisor.resume()
    stack.wait(lambda: not child.is_running(), seconds=5)
    stack.wait(lambda: stack.store.get(job_id).attempt == 2, seconds=15)
    stack.store.request_cancel(job_id)
    assert stack.ended(job_id).state is State.CANCELLED


def _has_pending(pid: int, number: signal.Signals) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("ShdPnd"))
    return bool(mask >> (number - 1) & 1)
