# SPDX-License-Identifier: Apache-2.0
"""Whatever the bell loses, the record finds again; a busy queue is not rung again and again."""

import time

import pytest

from core.spec import JobSpec
from core.store import Store, reconcile


class Heard:
    """A bell that remembers what it was asked to ring, and may be broken."""

    def __init__(self, *, works: bool = True) -> None:
        self.rings: list[str] = []
        self._works = works

    def ring(self, job_id: str) -> bool:
        self.rings.append(job_id)
        return self._works


@pytest.fixture
def bell() -> Heard:
    return Heard()


def test_a_job_waiting_beside_a_free_worker_is_rung_again(store: Store, spec: JobSpec, bell: Heard) -> None:
    job = store.submit(spec)
    store.worker_arrived("w@1", "cpu", 1)
    reconcile(store, bell, quiet_seconds=60)
    assert bell.rings == []  # the submitter rang a moment ago
    reconcile(store, bell, quiet_seconds=0)
    assert bell.rings == [job.id]


def test_a_broken_bell_is_tried_again(store: Store, spec: JobSpec) -> None:
    job = store.submit(spec)
    store.worker_arrived("w@1", "cpu", 1)
    broken = Heard(works=False)
    for _ in range(3):
        reconcile(store, broken, quiet_seconds=0)
    assert broken.rings == [job.id] * 3


def test_only_as_many_jobs_are_rung_as_there_is_room_for(store: Store, spec: JobSpec, bell: Heard) -> None:
    jobs = [store.submit(spec).id for _ in range(4)]
    reconcile(store, bell, quiet_seconds=0)
    assert bell.rings == []  # nobody is there to hear
    store.worker_arrived("w@1", "cpu", 2)
    store.claim(jobs[0], "w@1#a", 60)
    reconcile(store, bell, quiet_seconds=0)
    assert bell.rings == [jobs[1]]
    store.claim(jobs[1], "w@1#b", 60)
    reconcile(store, bell, quiet_seconds=0)
    assert bell.rings == [jobs[1]]


def test_a_released_job_is_rung_at_once_and_once(store: Store, spec: JobSpec, bell: Heard) -> None:
    job = store.submit(spec)
    store.claim(job.id, "w@1#a", 0.01)
    time.sleep(0.02)
    reconcile(store, bell, quiet_seconds=60)
    reconcile(store, bell, quiet_seconds=60)
    assert bell.rings == [job.id]


def test_workers_are_seen_while_they_are_there(store: Store, spec: JobSpec) -> None:
    job = store.submit(spec)
    store.worker_arrived("w@1", "cuda:0", 1)
    store.worker_works_on("w@1", job.id)
    (worker,) = store.workers()
    assert (worker.name, worker.device, worker.job_id) == ("w@1", "cuda:0", job.id)
    assert not store.worker_is_stopping("w@1")
    store.ask_worker_to_stop("w@1")
    store.worker_seen("w@1", "cuda:0", 1)
    assert store.worker_is_stopping("w@1")
    store.worker_arrived("w@1", "cuda:0", 1)
    assert not store.worker_is_stopping("w@1")
    store.worker_gone("w@1")
    assert store.workers() == []
