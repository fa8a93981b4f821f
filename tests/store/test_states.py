# SPDX-License-Identifier: Apache-2.0
"""The state machine: every step that is allowed works, every other one is refused and changes nothing."""

import time
from collections.abc import Callable

import pytest

from core.errors import StateError
from core.spec import JobSpec
from core.store import Store
from core.store.views import DELETABLE, RESUMABLE, State, StoredArtefact

ME = "worker@here#1"
FILES = (StoredArtefact(name="config.json", size=2, sha256="0" * 64),)

Reach = Callable[[Store, str], object]

# the shortest way to each state, by public steps only
PATHS: dict[State, tuple[Reach, ...]] = {
    State.QUEUED: (),
    State.RUNNING: (lambda s, j: s.claim(j, ME, 60),),
    State.VERIFYING: (lambda s, j: s.claim(j, ME, 60), lambda s, j: s.enter_verifying(j, ME)),
    State.DONE: (
        lambda s, j: s.claim(j, ME, 60),
        lambda s, j: s.enter_verifying(j, ME),
        lambda s, j: s.finish(j, ME, FILES),
    ),
    State.CANCELLING: (lambda s, j: s.claim(j, ME, 60), lambda s, j: s.request_cancel(j)),
    State.CANCELLED: (lambda s, j: s.request_cancel(j),),
    State.PAUSING: (lambda s, j: s.claim(j, ME, 60), lambda s, j: s.request_pause(j)),
    State.PAUSED: (lambda s, j: s.request_pause(j),),
    State.INTERRUPTED: (lambda s, j: s.claim(j, ME, 60), lambda s, j: s.interrupt(j, ME, "stopped")),
    State.FAILED: (lambda s, j: s.claim(j, ME, 60), lambda s, j: s.fail(j, ME, "broke", "fix it")),
}

# step -> {state it may start from: state it leads to}
STEPS: dict[str, tuple[Reach, dict[State, State]]] = {
    "claim": (lambda s, j: s.claim(j, ME, 60), {State.QUEUED: State.RUNNING}),
    "verify": (lambda s, j: s.enter_verifying(j, ME), {State.RUNNING: State.VERIFYING}),
    "finish": (lambda s, j: s.finish(j, ME, FILES), {State.VERIFYING: State.DONE}),
    "cancelled": (lambda s, j: s.cancelled(j, ME), {State.CANCELLING: State.CANCELLED}),
    "interrupt": (
        lambda s, j: s.interrupt(j, ME, "stopped"),
        dict.fromkeys((State.RUNNING, State.VERIFYING), State.INTERRUPTED),
    ),
    "fail": (
        lambda s, j: s.fail(j, ME, "broke"),
        dict.fromkeys((State.RUNNING, State.VERIFYING, State.CANCELLING, State.PAUSING), State.FAILED),
    ),
    "paused": (lambda s, j: s.paused(j, ME), {State.PAUSING: State.PAUSED}),
    "request_cancel": (
        lambda s, j: s.request_cancel(j),
        dict.fromkeys((State.QUEUED, State.INTERRUPTED, State.PAUSED), State.CANCELLED)
        | dict.fromkeys((State.RUNNING, State.VERIFYING, State.PAUSING), State.CANCELLING),
    ),
    "request_pause": (
        lambda s, j: s.request_pause(j),
        dict.fromkeys((State.QUEUED, State.INTERRUPTED), State.PAUSED)
        | dict.fromkeys((State.RUNNING, State.VERIFYING), State.PAUSING),
    ),
    "resume": (lambda s, j: s.resume(j), dict.fromkeys(RESUMABLE, State.QUEUED)),
}


def job_in(store: Store, spec: JobSpec, state: State) -> str:
    job_id = store.submit(spec).id
    for step in PATHS[state]:
        step(store, job_id)
    assert store.get(job_id).state is state
    return job_id


def refuse(step: Reach, store: Store, job_id: str) -> StateError | None:
    """The worker's steps say False, a person's raise."""
    try:
        won = step(store, job_id)
    except StateError as error:
        return error
    assert not won
    return None


@pytest.mark.parametrize("state", State)
def test_every_step_starts_only_where_it_may(store: Store, spec: JobSpec, state: State) -> None:
    for name, (step, allowed) in STEPS.items():
        job_id = job_in(store, spec, state)
        before = store.get(job_id)
        if state in allowed:
            step(store, job_id)
            assert store.get(job_id).state is allowed[state], name
            continue
        refusal = refuse(step, store, job_id)
        if refusal is not None:
            assert refusal.hint, f"{name} refuses without saying what to do"
            assert state.value in refusal.message
        after = store.get(job_id)
        assert after.model_copy(update={"eta_seconds": None, "queue_position": None}) == before.model_copy(
            update={"eta_seconds": None, "queue_position": None}
        ), f"{name} from {state} changed the job although it was refused"


@pytest.mark.parametrize("state", State)
def test_only_a_job_no_worker_will_touch_can_be_deleted(store: Store, spec: JobSpec, state: State) -> None:
    job_id = job_in(store, spec, state)
    if state in DELETABLE:
        store.delete(job_id)
        with pytest.raises(StateError, match="there is no job"):
            store.get(job_id)
        assert store.events_after(job_id) == []
        assert store.artefacts(job_id) == []
    else:
        with pytest.raises(StateError, match="cannot be deleted"):
            store.delete(job_id)
        assert store.get(job_id).state is state


def test_a_done_job_has_its_files_and_nothing_of_the_lease(store: Store, spec: JobSpec) -> None:
    job_id = job_in(store, spec, State.DONE)
    assert store.artefacts(job_id) == list(FILES)
    assert store.get(job_id).finished_at is not None
    assert not store.heartbeat(job_id, ME, 60).still_mine


def test_resume_clears_why_it_failed_and_counts_the_next_attempt(store: Store, spec: JobSpec) -> None:
    job_id = store.submit(spec).id
    store.claim(job_id, ME, 60)
    store.fail(job_id, ME, "broke", "fix it", "last line", 123)
    failed = store.get(job_id)
    assert (failed.reason, failed.hint, failed.log_tail) == ("broke", "fix it", "last line")
    assert failed.peak_memory_bytes == 123

    again = store.resume(job_id)
    assert (again.reason, again.hint, again.log_tail, again.finished_at) == ("", "", "", None)
    assert again.spec == spec
    claimed = store.claim(job_id, "worker@here#2", 60)
    assert claimed is not None
    assert claimed.attempt == 2


def test_an_unknown_job_is_said_to_be_unknown(store: Store) -> None:
    for call in (store.get, store.request_cancel, store.resume, store.delete):
        with pytest.raises(StateError, match="there is no job 'nope'") as caught:
            call("nope")
        assert caught.value.hint


def test_the_lost_job_is_queued_again_and_given_up_after_three_losses(store: Store, spec: JobSpec) -> None:
    job_id = store.submit(spec).id
    for attempt in (1, 2, 3):
        assert store.claim(job_id, f"{ME}{attempt}", 0.01) is not None
        time.sleep(0.02)
        assert store.release_expired() == [job_id]
        expected = State.QUEUED if attempt < 3 else State.FAILED
        assert store.get(job_id).state is expected
    failed = store.get(job_id)
    assert "lost 3 times" in failed.reason
    assert "memory" in failed.hint
    assert failed.attempt == 3
    # a person may insist, and then has three tries again
    store.resume(job_id)
    store.claim(job_id, ME, 0.01)
    time.sleep(0.02)
    store.release_expired()
    assert store.get(job_id).state is State.QUEUED


def test_a_cancelled_job_whose_worker_died_is_cancelled(store: Store, spec: JobSpec) -> None:
    job_id = store.submit(spec).id
    store.claim(job_id, ME, 0.01)
    store.request_cancel(job_id)
    time.sleep(0.02)
    store.release_expired()
    assert store.get(job_id).state is State.CANCELLED


def test_a_job_that_was_given_back_is_queued_again_without_a_loss(store: Store, spec: JobSpec) -> None:
    for _ in range(5):
        job_id = job_in(store, spec, State.INTERRUPTED)
        store.release_expired()
        assert store.get(job_id).state is State.QUEUED
