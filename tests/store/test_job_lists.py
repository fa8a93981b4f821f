# SPDX-License-Identifier: Apache-2.0
"""Finding jobs again."""

import re
from datetime import UTC, datetime, timedelta

from core.settings import Settings
from core.spec import JobSpec
from core.store import Store
from core.store.views import State


def test_a_submitted_job_comes_back_as_it_was(store: Store, spec: JobSpec) -> None:
    job = store.submit(spec, owner="ada")
    assert store.get(job.id) == job
    assert (job.spec, job.owner, job.state, job.attempt, job.metrics) == (spec, "ada", State.QUEUED, 0, {})
    assert re.fullmatch(r"[a-z2-9]{10}", job.id)
    assert job.created_at.utcoffset() == timedelta(0)
    assert abs(job.created_at - datetime.now(UTC)) < timedelta(seconds=10)


def test_the_newest_job_comes_first_and_pages_do_not_overlap(store: Store, spec: JobSpec) -> None:
    ids = [store.submit(spec).id for _ in range(5)]
    assert [job.id for job in store.list()] == ids[::-1]
    pages = store.list(limit=2) + store.list(limit=2, offset=2) + store.list(limit=2, offset=4)
    assert [job.id for job in pages] == ids[::-1]
    assert store.count() == 5


def test_text_is_found_in_model_preset_and_id(store: Store) -> None:
    llama = store.submit(JobSpec(model="meta/Llama-3_8B", preset="mha2mla-81"))
    demo = store.submit(JobSpec(model="demo"))
    assert [job.id for job in store.list(text="llama")] == [llama.id]
    assert [job.id for job in store.list(text="MLA-81")] == [llama.id]
    assert [job.id for job in store.list(text=demo.id[2:8])] == [demo.id]
    # % and _ mean themselves
    assert store.count(text="%") == 0
    assert store.count(text="3_8") == 1
    assert store.count(text="a_8") == 0


def test_states_filter_and_no_states_find_nothing(store: Store, spec: JobSpec) -> None:
    waiting, stopped = store.submit(spec), store.submit(spec)
    store.request_cancel(stopped.id)
    assert [job.id for job in store.list({State.QUEUED})] == [waiting.id]
    assert store.count({State.QUEUED, State.CANCELLED}) == 2
    assert store.list(set()) == []


def test_the_queue_position_counts_those_ahead(store: Store, spec: JobSpec) -> None:
    first, second, third = (store.submit(spec).id for _ in range(3))
    assert [store.get(job).queue_position for job in (first, second, third)] == [1, 2, 3]
    store.claim(first, "me", 60)
    assert [store.get(job).queue_position for job in (first, second, third)] == [None, 1, 2]
    store.request_cancel(second)
    assert store.get(third).queue_position == 1


def test_recent_models_are_different_and_newest_first(store: Store) -> None:
    for model in ("a", "b", "a", "c", "b"):
        store.submit(JobSpec(model=model))
    assert store.recent_models(10) == ["b", "c", "a"]
    assert store.recent_models(1) == ["b"]


def test_deleting_a_job_removes_its_folder(store: Store, spec: JobSpec, settings: Settings) -> None:
    job = store.submit(spec)
    folder = settings.jobs_dir / job.id / "result"
    folder.mkdir(parents=True)
    store.request_cancel(job.id)
    store.delete(job.id)
    assert not folder.parent.exists()
