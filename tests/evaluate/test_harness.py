# SPDX-License-Identifier: Apache-2.0
"""lm-eval is an extra: without it the fix is named; what it reports is one score and its questions."""

import sys
from importlib.metadata import PackageNotFoundError

import pytest

from core.errors import SpecError
from core.evaluate import harness
from core.evaluate.harness import check_harness, read_results, tasks_of


def test_sets_are_spelled_out() -> None:
    """The six commonsense benchmarks of MHA2MLA's table 1; ARC is two tasks."""
    assert tasks_of(["commonsense", "own"])[-2:] == ("winogrande", "own")
    assert len(tasks_of(["commonsense"])) == 7
    assert tasks_of(["longbench"]) == ("longbench",)


def test_without_the_extra_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is installed here or not."""

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(harness, "version", absent)
    with pytest.raises(SpecError, match="lm-eval is not installed") as caught:
        check_harness(["piqa"], None)
    assert "mla-workbench[eval]" in caught.value.hint


def test_half_of_it_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is there and does not import, as after an interrupted installation."""
    monkeypatch.setattr(harness, "version", lambda name: "0.4.13")
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(SpecError, match="only in part") as caught:
        check_harness(["piqa"], None)
    assert "mla-workbench[eval]" in caught.value.hint


def test_a_result_is_a_score_and_the_score_of_every_question() -> None:
    """In the order of the questions, whatever order they were answered in; the shape of lm-eval 0.4.13."""
    found = {
        "results": {"own": {"alias": "own", "acc,none": 0.75, "acc_stderr,none": 0.25}},
        "samples": {"own": [{"doc_id": one, "acc": float(one != 2)} for one in (3, 0, 2, 1)]},
        "n-samples": {"own": {"original": 9, "effective": 4}},
    }
    expected = {"metric": "acc", "value": 0.75, "samples": 4, "scores": [1.0, 1.0, 0.0, 1.0]}
    assert read_results("own", found) == expected


def test_a_group_has_a_mean_and_no_questions_of_its_own() -> None:
    found = {
        "results": {"group": {"acc,none": 0.5}, "one": {"acc,none": 0.5}, "two": {"acc,none": 0.5}},
        "samples": {"one": [{"doc_id": 0, "acc": 1.0}], "two": [{"doc_id": 0, "acc": 0.0}]},
        "n-samples": {"one": {"effective": 1}, "two": {"effective": 1}},
    }
    assert read_results("group", found) == {"metric": "acc", "value": 0.5, "samples": 2, "scores": []}


def test_a_task_without_a_known_metric_is_refused() -> None:
    with pytest.raises(SpecError, match=r"reports none of acc_norm, .* but word_perplexity"):
        read_results("own", {"results": {"own": {"word_perplexity,none": 9.0}}})
