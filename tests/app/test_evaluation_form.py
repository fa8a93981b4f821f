# SPDX-License-Identifier: Apache-2.0
"""What the form of an evaluation asks for, what it refuses and beside which box, and what it copies."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.services import uploads
from app.services.duration import work
from app.services.incoming import Incoming
from app.services.measuring import (
    beside,
    estimate_evaluation,
    evaluation_request,
    measurable,
    measured_before,
    usual_models,
)
from app.services.workbench import Workbench
from app.ui.components.evaluation_card import evaluation_card
from app.ui.evaluation_form import AMOUNTS, FIELDS, amount_of, asked_of, filled, initial, of_spec, slot_of
from core.errors import WorkbenchError
from core.further.spec import Measurements
from core.settings import Settings
from core.spec import JobSpec
from core.store import open_store
from tests.app.conftest import CountingBell, finish_job

FILES = {"config.json": b"{}", "conversion.json": b"{}"}


def values(**changes: Any) -> list[Any]:
    """What the boxes hold, as nobody has touched them but for `changes`."""
    return [(initial(["job:x"]) | changes)[name] for name in FIELDS]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """One record for all of them: none looks at what the others leave."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("home"))
    with closing(open_store(settings, migrate=True)) as store:
        yield Workbench(settings, store, CountingBell())


@pytest.fixture(scope="module")
def conversion(bench: Workbench, tiny_checkpoint: Path) -> str:
    return finish_job(bench, FILES, JobSpec(model=str(tiny_checkpoint)))


def test_untouched_it_asks_for_two_texts_at_two_lengths() -> None:
    asked = Measurements.model_validate(asked_of(values()))
    assert (asked.texts, asked.contexts) == (("wikipedia-heldout", "news"), (512, 2048))
    assert amount_of(values()) == "usual"


@pytest.mark.parametrize("name", AMOUNTS)
def test_every_choice_fills_boxes_that_ask_for_something(name: str) -> None:
    entered = [own if said is None else said for own, said in zip(values(), filled(name), strict=True)]
    assert Measurements.model_validate(asked_of(entered))
    assert amount_of(entered) == name


def test_what_was_asked_fills_the_form_that_asks_for_the_same() -> None:
    asked = Measurements(
        conversions=("job:abc",), texts=(), contexts=(64,), retrieval=("multikey",), harness=("piqa",), seed=3
    )
    shown = of_spec(JobSpec(kind="evaluate", evaluate=asked))
    assert Measurements.model_validate(asked_of([shown[name] for name in FIELDS])) == asked


@pytest.mark.parametrize(
    ("changes", "slot", "words"),
    [
        ({"contexts": "512, many"}, "texts", "valid integer"),
        ({"contexts": "8"}, "texts", "greater than or equal to 16"),
        ({"windows": 0}, "texts", "greater than or equal to 1"),
        ({"texts": ["no-such-text"]}, "texts", "there is no text"),
        ({"texts": [], "retrieval": []}, "texts", "measures nothing"),
        ({"conversions": ["job:nosuchjob2"]}, "models", "no result"),
        ({"conversions": ["job:x"] * 7}, "models", "at most 6"),
        ({"retrieval": ["multikey"], "samples": 1}, "retrieval", "greater than or equal to 2"),
        ({"retrieval": ["multikey"], "essay": "no-such-text"}, "retrieval", "there is no text"),
        ({"harness_limit": 0}, "harness", "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_measured_is_said_beside_its_box(
    changes: dict[str, Any], slot: str, words: str, bench: Workbench, conversion: str
) -> None:
    own = {"conversions": [f"job:{conversion}"]}
    job = measurable(bench, conversion)
    found = estimate_evaluation(bench, evaluation_request(job, asked_of(values(**own | changes))))
    (one,) = found.problems
    assert slot_of(one.field) == slot, one.field
    assert words in one.message
    assert one.hint


def test_an_upload_that_is_too_short_is_refused_before_it_is_queued(
    bench: Workbench, conversion: str
) -> None:
    """The tiny tokenizer knows bytes: 600 of them are 600 tokens, and two windows of 512 need more."""
    with Incoming(bench.settings) as incoming:
        incoming.write(b"a word " * 85 + b"more.")
        text = uploads.store(bench.settings, "short", incoming)
    own = {"conversions": [f"job:{conversion}"], "texts": [text.value], "contexts": "300"}
    job = measurable(bench, conversion)
    for windows, is_refused in ((2, False), (3, True)):
        asked = evaluation_request(job, asked_of(values(**own, windows=windows)))
        found = estimate_evaluation(bench, asked)
        assert [one.message for one in found.problems] == (
            ["short has 600 tokens, 3 windows of 300 need 900"] if is_refused else []
        )


def test_the_time_is_scaled_from_the_last_job_by_what_is_read(bench: Workbench, conversion: str) -> None:
    """Twice the windows, twice the work; nobody's conversion, no time."""
    job = measurable(bench, conversion)
    facts = bench.facts.read(job.spec.model, None, bench.settings)
    seconds = []
    for windows in (8, 16):
        own = {"conversions": [f"job:{conversion}"], "windows": windows}
        found = estimate_evaluation(bench, evaluation_request(job, asked_of(values(**own))))
        assert found.spec is not None
        assert "estimated" in evaluation_card(found)
        seconds.append((found.seconds, work(found.spec, facts)))
    assert seconds[1][1] == 2 * seconds[0][1]
    assert seconds[1][0] > seconds[0][0]  # type: ignore[operator]


def test_the_card_says_how_sharp_the_figures_can_be(bench: Workbench, conversion: str) -> None:
    """8 windows: no p below 2 / 2^8; 20 questions, half of them right: Wilson leaves ± 20 points."""
    own = {"conversions": [f"job:{conversion}"], "retrieval": ["multikey"]}
    job = measurable(bench, conversion)
    card = evaluation_card(estimate_evaluation(bench, evaluation_request(job, asked_of(values(**own)))))
    assert "p is at least 0.008" in card
    assert "± 20 points" in card


def test_only_results_of_the_same_original_are_offered(
    bench: Workbench, conversion: str, tiny_checkpoint: Path
) -> None:
    other = finish_job(bench, FILES, JobSpec(model=str(tiny_checkpoint), keep=0.5))
    finish_job(bench, FILES, JobSpec(model="demo"))
    job = measurable(bench, conversion)
    assert [one.id for one in beside(bench, job)] == [conversion, other]
    assert usual_models(bench, job) == [f"job:{conversion}"]


def test_an_evaluation_is_cloned_from_what_it_measured(bench: Workbench, conversion: str) -> None:
    asked = Measurements(conversions=(f"job:{conversion}",), texts=("news",))
    job = finish_job(bench, {"evaluation.json": b"{}"}, JobSpec(kind="evaluate", evaluate=asked))
    source, spec = measured_before(bench, job)
    assert (source, spec.evaluate) == (conversion, asked)
    with pytest.raises(WorkbenchError, match="did not measure"):
        measured_before(bench, conversion)
    with pytest.raises(WorkbenchError, match="no converted model"):
        measurable(bench, job)
