# SPDX-License-Identifier: Apache-2.0
"""Many open pages: each asks more slowly, the record is asked once for all, and nobody misses the end."""

from collections.abc import Callable

from app.services.crowd import ASKS_PER_SECOND, SLOWEST_SECONDS, Crowd
from app.services.recent import Recent
from app.services.workbench import Workbench
from app.ui.components.log import LogState
from app.ui.pages.job import _caught_up, _look
from core.events import Log
from core.spec import JobSpec
from tests.app.conftest import finish_job


def counting(answers: list[int]) -> Callable[[], int]:
    def read() -> int:
        answers.append(len(answers))
        return answers[-1]

    return read


def test_few_pages_ask_as_often_as_they_like_and_many_share_the_rate() -> None:
    crowd = Crowd()
    paces = [crowd.pace(f"page {number}", 1.5) for number in range(50)]
    assert paces[0] == 1.5
    # together they ask no more often than the rate allows
    assert 50 / paces[-1] <= ASKS_PER_SECOND
    assert crowd.pace("page 0", 1.5) == paces[-1]
    for number in range(500):
        slowest = crowd.pace(f"more {number}", 1.5)
    assert slowest == SLOWEST_SECONDS


def test_what_was_read_a_moment_ago_is_not_read_again_until_somebody_changes_it() -> None:
    recent, answers = Recent(seconds=60), list[int]()
    assert [recent.get("jobs", counting(answers)) for _ in range(3)] == [0, 0, 0]
    assert recent.get("other", counting(answers)) == 1
    recent.forget()
    assert recent.get("jobs", counting(answers)) == 2
    old = Recent(seconds=0)
    assert old.get("jobs", counting(answers)) != old.get("jobs", counting(answers))


def test_the_last_lines_of_a_job_are_not_lost_to_what_is_remembered(bench: Workbench) -> None:
    """Another viewer has read "nothing new" a moment before the job's last words and its end."""
    job = bench.store.submit(JobSpec()).id
    bench.store.claim(job, "worker", 1000)
    view = bench.store.get(job)
    seen = _caught_up(bench, view, LogState())
    assert _caught_up(bench, view, seen) is seen
    bench.store.record(job, "worker", Log(message="last words"))
    bench.store.fail(job, "worker", "broke")
    ended = _caught_up(bench, bench.store.get(job), seen)
    assert "last words" in "".join(ended.lines)
    assert "broke" in "".join(ended.lines)


def test_a_page_of_a_finished_job_does_not_ask_again(bench: Workbench) -> None:
    job = finish_job(bench, {"config.json": b"{}"})
    timers = [one for one in _look(bench, job, LogState()) if type(one).__name__ == "Timer"]
    assert [timer.active for timer in timers] == [False]
