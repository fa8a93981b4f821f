# SPDX-License-Identifier: Apache-2.0
"""A job that fails says why, what to change, and what its last words were."""

import shutil
import signal
from pathlib import Path

import pytest

from core.spec import JobSpec
from core.store.views import State
from tests.workers.worker_stack import Stack
from workers.folder import JobFolder

pytestmark = pytest.mark.process


def test_a_refused_job_has_the_reason_and_the_hint_of_the_error(stack: Stack, tmp_path: Path) -> None:
    failed = stack.ended(stack.submit(JobSpec(model=str(tmp_path / "missing"), evaluation=None)))
    assert failed.state is State.FAILED
    assert failed.reason.startswith("unusable model: there is no folder")
    assert "local folder" in failed.hint
    assert "preparing" in failed.log_tail
    assert failed.peak_memory_bytes


def test_an_unexpected_error_shows_its_trace_in_the_log(stack: Stack, spec: JobSpec, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(spec.model, broken)
    (broken / "tokenizer.json").write_text("{}")
    failed = stack.ended(stack.submit(spec.model_copy(update={"model": str(broken)})))
    assert failed.state is State.FAILED
    assert failed.reason
    assert failed.hint
    assert failed.log_tail


def test_a_process_that_dies_before_it_can_speak_is_reported(stack: Stack, spec: JobSpec) -> None:
    job_id = stack.store.submit(spec).id
    # the lock cannot be opened: it is a folder
    (stack.settings.jobs_dir / job_id / "lock").mkdir(parents=True)
    stack.bell.ring(job_id)
    failed = stack.ended(job_id)
    assert failed.reason == "ended with exit code 1 before the first stage"
    assert "IsADirectoryError" in failed.log_tail


def test_a_crash_names_its_signal_and_leaves_a_trace(stack: Stack, spec: JobSpec) -> None:
    job_id = stack.submit(spec)
    stack.wait(lambda: stack.store.get(job_id).stage, pause=0.01)
    child = stack.child(job_id)
    assert child is not None
    child.send_signal(signal.SIGSEGV)
    failed = stack.ended(job_id, seconds=10)
    assert failed.reason.startswith("ended by SIGSEGV (signal 11) during")
    assert "Segmentation fault" in failed.log_tail


def test_the_headline_of_a_crash_survives_a_deep_trace(tmp_path: Path) -> None:
    """A crash during an import is a hundred calls deep: the last 30 lines alone are the outermost ones."""
    folder = JobFolder(tmp_path)
    calls = "".join(f'  File "x.py", line {line} in f\n' for line in range(100))
    crash = f"Fatal Python error: Segmentation fault\n\nCurrent thread:\n{calls}"
    folder.log.write_text(f"--- first\n12:00:00 preparing\n{crash}")
    assert folder.tail().startswith("Fatal Python error: Segmentation fault")
    assert "line 0 in f" in folder.tail()
    with folder.log.open("a") as log:
        log.write("--- second\n12:00:01 preparing\nended well\n")
    assert folder.tail().endswith("ended well"), "the crash was an earlier attempt's"


def test_a_process_that_cannot_be_started_fails_the_job(stack: Stack, spec: JobSpec) -> None:
    """The log cannot be written: the device says what a full disk says."""
    job_id = stack.store.submit(spec).id
    folder = stack.settings.jobs_dir / job_id
    folder.mkdir(parents=True)
    (folder / "log.txt").symlink_to("/dev/full")
    stack.bell.ring(job_id)
    failed = stack.ended(job_id, seconds=30)
    assert failed.attempt == 1
    assert "No space left on device" in failed.reason
    assert "free space" in failed.hint


def test_a_last_word_that_finds_no_room_still_names_the_disk(stack: Stack, tmp_path: Path) -> None:
    job_id = stack.store.submit(JobSpec(model=str(tmp_path / "missing"), evaluation=None)).id
    folder = stack.settings.jobs_dir / job_id
    folder.mkdir(parents=True)
    (folder / "outcome.partial").symlink_to("/dev/full")
    stack.bell.ring(job_id)
    failed = stack.ended(job_id)
    assert "disk is full" in failed.reason
    assert "free space" in failed.hint
    assert "there is no folder" in failed.log_tail
