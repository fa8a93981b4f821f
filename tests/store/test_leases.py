# SPDX-License-Identifier: Apache-2.0
"""One job, one worker: whoever has lost the lease can change nothing any more."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

from core.events import Log, Metric, Progress, StageStarted
from core.settings import Settings
from core.spec import JobSpec
from core.store import Store, open_store
from core.store.views import State


def _claim(database_url: str, data_dir: str, job_id: str, owner: str) -> bool:
    store = open_store(Settings(data_dir=data_dir, database_url=database_url))
    try:
        return store.claim(job_id, owner, 60) is not None
    finally:
        store.close()


def test_eight_threads_claim_one_job_and_one_gets_it(store: Store, spec: JobSpec) -> None:
    for _ in range(5):
        job_id = store.submit(spec).id
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda n, job_id=job_id: store.claim(job_id, f"w#{n}", 60), range(8)))
        assert sum(job is not None for job in won) == 1
        assert store.get(job_id).attempt == 1


def test_four_processes_claim_a_job_and_one_gets_it(store: Store, settings: Settings, spec: JobSpec) -> None:
    job_ids = [store.submit(spec).id for _ in range(10)]
    # spawn: a database connection must not be carried into a fork
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        tries = [
            (job_id, pool.submit(_claim, settings.database_url, str(settings.data_dir), job_id, f"w#{n}"))
            for job_id in job_ids
            for n in range(4)
        ]
        winners = [job_id for job_id, result in tries if result.result()]
    assert sorted(winners) == sorted(job_ids)


def test_the_former_owner_is_fenced_off(store: Store, spec: JobSpec) -> None:
    job_id = store.submit(spec).id
    store.claim(job_id, "old", 0.01)
    time.sleep(0.02)
    store.release_expired()
    assert store.claim(job_id, "new", 60) is not None

    before = store.events_after(job_id)
    assert not store.record(job_id, "old", Log(message="still here"))
    assert not store.progress(job_id, "old", Progress(stage="converting", done=3, total=4))
    assert not store.heartbeat(job_id, "old", 60).still_mine
    assert not store.look(job_id, "old").still_mine
    assert not store.enter_verifying(job_id, "old")
    assert not store.finish(job_id, "old", ())
    assert not store.fail(job_id, "old", "broke")
    assert not store.interrupt(job_id, "old", "stopped")
    assert not store.cancelled(job_id, "old")
    assert store.events_after(job_id) == before
    assert store.get(job_id).state is State.RUNNING
    assert store.heartbeat(job_id, "new", 60).still_mine


def test_a_lease_that_is_renewed_does_not_run_out(store: Store, spec: JobSpec) -> None:
    job_id = store.submit(spec).id
    store.claim(job_id, "me", 0.01)
    store.heartbeat(job_id, "me", 60, peak_memory=5)
    time.sleep(0.02)
    assert store.release_expired() == []
    assert store.get(job_id).peak_memory_bytes == 5


def test_two_reconcilers_release_a_job_once(store: Store, spec: JobSpec) -> None:
    job_id = store.submit(spec).id
    store.claim(job_id, "me", 0.01)
    time.sleep(0.02)
    with ThreadPoolExecutor(6) as pool:
        released = list(pool.map(lambda _: store.release_expired(), range(6)))
    assert sum(map(len, released)) == 1
    assert sum("fell silent" in str(event.event) for event in store.events_after(job_id)) == 1


def test_the_worker_learns_of_a_cancel(store: Store, spec: JobSpec) -> None:
    job_id = store.submit(spec).id
    store.claim(job_id, "me", 60)
    assert not store.look(job_id, "me").stop_requested
    store.request_cancel(job_id)
    assert store.look(job_id, "me").stop_requested
    assert store.heartbeat(job_id, "me", 60).stop_requested


def test_writers_and_readers_at_once_lose_nothing(store: Store, spec: JobSpec) -> None:
    """Six writers of one job and readers by cursor: every event arrives, in order, none twice."""
    job_id = store.submit(spec).id
    store.claim(job_id, "me", 60)
    store.record(job_id, "me", StageStarted(stage="converting", total=40))
    seen: list[int] = []

    def write(part: int) -> None:
        for step in range(40):
            assert store.record(job_id, "me", Metric(name=f"m{part}", value=step))

    with ThreadPoolExecutor(6) as pool:
        writers = [pool.submit(write, part) for part in range(6)]
        while not all(writer.done() for writer in writers):
            seen += [event.id for event in store.events_after(job_id, max(seen, default=0), limit=7)]
            # a page asks every second; asking without a pause only takes the interpreter from the writers
            time.sleep(0.002)
        for writer in writers:
            writer.result()
    while found := store.events_after(job_id, max(seen, default=0)):
        seen += [event.id for event in found]
    assert seen == sorted(set(seen))
    assert len(seen) == 2 + 6 * 40
