# SPDX-License-Identifier: Apache-2.0
"""A state is a word with what one wants to know next: how long still, where it stopped, what to try."""

import pytest

from app.services.queue import Expected
from app.services.workbench import Workbench
from app.ui.components.progress import job_head
from app.ui.components.state_words import state_words
from app.ui.strings import STATE_TONES, STATE_WORDS
from core.fixes import less_device_memory, less_memory
from core.spec import JobSpec
from core.store.views import State


def soon(starts_in: float, ends_in: float) -> Expected:
    return Expected(job_id="one", position=None, starts_in=starts_in, ends_in=ends_in)


@pytest.mark.parametrize("state", State)
def test_every_state_is_one_word_in_a_tone(state: State) -> None:
    assert STATE_WORDS[state].isalpha()
    assert STATE_TONES[state]


def test_a_waiting_job_says_its_place_and_how_long(bench: Workbench) -> None:
    first, second = (bench.store.submit(JobSpec()).id for _ in range(2))
    assert state_words(bench.store.get(first), soon(0, 60)) == "position 1, next"
    assert state_words(bench.store.get(second), soon(720, 800)) == "position 2, about 12\u202fmin"
    assert state_words(bench.store.get(second), None) == "position 2", "no guess"


def test_a_running_job_says_its_layer_and_what_is_left(bench: Workbench, running_job: str) -> None:
    assert state_words(bench.store.get(running_job), soon(0, 240)) == "convert 2/4, about 4\u202fmin left"


def test_a_failed_job_says_where_why_how_much_memory_and_its_last_words(
    bench: Workbench, running_job: str
) -> None:
    tail = "\n".join(f"line {number}" for number in range(30))
    bench.store.fail(running_job, "worker", "killed (signal 9)", "use less memory", tail, 21_400_000_000)
    head = job_head(bench.store.get(running_job), has_worker=True)
    for said in (
        "killed (signal 9)",
        "use less memory",
        "“convert”, 2 of 4",
        "21.4\u202fGB",
        "line 0",
        "line 29",
    ):
        assert said in head, said


def test_a_failure_is_offered_at_most_three_changes() -> None:
    assert 1 <= len(less_memory(JobSpec())) <= 3
    assert 1 <= len(less_device_memory(JobSpec())) <= 3
