# SPDX-License-Identifier: Apache-2.0
"""An evaluation job measures every model on the same things, keeps finished pieces, and refuses early."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.testing import CliRunner

from app.cli.main import cli
from app.services.copy_as import as_command
from core import kinds
from core.calibrate.text import read_text
from core.errors import Cancelled, ModelError, SpecError, TextError, WorkbenchError
from core.evaluate import evaluate
from core.evaluate.retrieval import MAKERS
from core.events import Cancel, NeverCancel
from core.further.spec import Measurements, RetrievalTask
from core.settings import Settings
from core.spec import JobSpec, parse_spec
from core.workspace import Workspace
from tests.engine.list_sink import ListSink


def run(spec: JobSpec, folder: Path, home: Settings, cancel: Cancel | None = None) -> tuple[ListSink, Any]:
    """Events, and evaluation.json when it was done."""
    sink = ListSink()
    workspace = Workspace(work=folder / "work", result=folder / "result")
    try:
        kinds.run(spec, workspace, sink, cancel or NeverCancel(), home)
    except Cancelled:
        return sink, None
    return sink, json.loads((folder / "result" / "evaluation.json").read_text(encoding="utf-8"))


class StopAfter:
    """Cancels at the nth time of asking."""

    def __init__(self, times: int) -> None:
        self._left = times

    def check(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Cancelled("asked to stop")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data_dir=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def prose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences; the tiny tokenizer knows bytes, so as many tokens as characters."""
    path = tmp_path_factory.mktemp("prose") / "prose.txt"
    path.write_text(" ".join(f"Line {number} says {number * number % 977}." for number in range(600)))
    return path


@pytest.fixture(scope="module")
def original(tiny_llama: Callable[..., Path]) -> Path:
    """One layer: what is shown is the way of a job, and it takes hundreds of steps of one token."""
    return tiny_llama(num_hidden_layers=1)


@pytest.fixture(scope="module")
def conversions(converted: Callable[..., Path], original: Path, home: Settings) -> tuple[str, str]:
    """job:ID of one, and the folder of another."""
    shutil.copytree(converted("bfloat16", original), home.jobs_dir / "abcde23456" / "result")
    return "job:abcde23456", str(converted("float32", original))


@pytest.fixture(scope="module")
def spec_of(original: Path, conversions: tuple[str, str], prose: Path) -> Callable[..., JobSpec]:
    """A small evaluation of both; fields of Measurements can be changed."""

    def make(**changes: object) -> JobSpec:
        asked: dict[str, object] = {
            "conversions": conversions,
            "texts": [str(prose)],
            "contexts": [64, 96],
            "windows": 4,
            "retrieval": ["single-noise"],
            "retrieval_contexts": [400],
            "samples": 2,
            "essay": str(prose),
        }
        found = Measurements.model_validate(asked | changes)
        return JobSpec(kind="evaluate", model=str(original), evaluate=found)

    return make


@pytest.fixture(scope="module")
def finished_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("finished")


@pytest.fixture(scope="module")
def finished(spec_of: Callable[..., JobSpec], home: Settings, finished_folder: Path) -> tuple[ListSink, Any]:
    return run(spec_of(), finished_folder, home)


def test_a_text_is_measured_as_the_command_does(
    finished: tuple[ListSink, Any], original: Path, conversions: tuple[str, str], prose: Path
) -> None:
    """Two conversions, two contexts, figures and intervals of `mla-workbench evaluate`."""
    rows = finished[1]["texts"]
    assert [(row["model"], row["context"]) for row in rows] == [
        (name, size) for name in conversions for size in (64, 96)
    ]
    text = read_text(str(prose))
    found = evaluate(
        Path(conversions[1]), text, base_folder=original, context=96, windows=4, by_position=True
    )
    for name in ("perplexity", "perplexity_base", "kl_to_base", "top1_agreement", "paired", "by_position"):
        assert rows[-1][name] == found[name]


def test_every_model_is_asked_the_same_questions(
    finished: tuple[ListSink, Any], original: Path, conversions: tuple[str, str]
) -> None:
    """With the original, an interval for each, and the conversions' difference to it."""
    rows = finished[1]["retrieval"]
    assert [row["model"] for row in rows] == [str(original), *conversions]
    asked = [one["tokens"] for one in finished[1]["answers"]]
    assert asked[0] == asked[1] == asked[2]
    for row in rows:
        assert (row["samples"], row["chance"]) == (2, 1 / 8)
        assert row["match"]["low"] <= row["match"]["value"] <= row["match"]["high"]
    assert "match_to_base" not in rows[0]
    assert all(0 < row["choice_to_base"]["p_value"] <= 1 for row in rows[1:])


def test_the_tables_are_in_the_record_while_it_runs_and_after(finished: tuple[ListSink, Any]) -> None:
    """The page draws the figure; the last one is what the file says."""
    sink, whole = finished
    figures = [event for event in sink.of("figure") if event.name == "evaluation"]
    assert [len(one.data["texts"]) + len(one.data["retrieval"]) for one in figures] == list(range(1, 8))
    assert figures[-1].data == {name: whole[name] for name in figures[-1].data}
    first = whole["texts"][0]
    assert sink.metrics["perplexity_ratio"] == first["perplexity"] / first["perplexity_base"]
    last = sink.of("progress")[-1]
    assert (last.done, last.total) == (7, 7)


def test_the_report_for_people_has_every_row_and_no_path(
    finished: tuple[ListSink, Any], finished_folder: Path, original: Path
) -> None:
    page = (finished_folder / "result" / "evaluation.md").read_text(encoding="utf-8")
    assert page.count("| 4 x 64 tokens |") == 2
    assert page.count("| single-noise |") == 3
    assert "95 % intervals" in page
    assert str(original.parent) not in page


@pytest.mark.parametrize("checks", [3, 18])
def test_a_stopped_evaluation_goes_on_with_the_next_piece(
    checks: int, spec_of: Callable[..., JobSpec], home: Settings, tmp_path: Path, finished: tuple[Any, Any]
) -> None:
    """Nothing finished is measured again, and the figures are those of a run in one go."""
    spec = spec_of()
    before, nothing = run(spec, tmp_path, home, StopAfter(checks))
    assert nothing is None, "it must have been stopped"
    kept = len(list((tmp_path / "work" / "pieces").glob("*.json")))
    assert kept == sum(one.name == "evaluation" for one in before.of("figure"))
    after, whole = run(spec, tmp_path, home)
    assert after.of("stage")[-1].finished == kept
    assert sum(one.name == "evaluation" for one in after.of("figure")) == 7 - kept + (kept > 0)
    assert whole == finished[1]


def test_a_copied_command_measures_the_same(
    spec_of: Callable[..., JobSpec], home: Settings, tmp_path: Path, finished: tuple[Any, Any]
) -> None:
    """What the page offers to copy is the same job on the command line, and keeps both reports."""
    words = shlex.split(as_command(spec_of()))
    assert words[:2] == ["mla-workbench", "evaluate"]
    out = tmp_path / "out"
    words[words.index("--out") + 1] = str(out)
    environment = {"MLA_DATA_DIR": str(home.data_dir)}
    ran = CliRunner().invoke(cli, [*words[1:-2], "--json", *words[-2:]], env=environment)
    assert ran.exit_code == 0, ran.stderr
    assert json.loads(ran.stdout) == json.loads((out / "evaluation.json").read_text()) == finished[1]
    assert (out / "evaluation.md").read_text().count("| single-noise |") == 3


def test_one_text_at_one_length_is_answered_as_ever(
    original: Path, conversions: tuple[str, str], prose: Path
) -> None:
    """Figures at the top and the bytes beside them: what scripts read since the first release."""
    asked = ["--base", str(original), "--text", str(prose), "--context", "64", "--windows", "2", "--json"]
    ran = CliRunner().invoke(cli, ["evaluate", conversions[1], *asked])
    assert ran.exit_code == 0, ran.stderr
    found = json.loads(ran.stdout)
    figures = {"perplexity", "tokens", "perplexity_base", "kl_to_base", "top1_agreement", "paired"}
    assert found.keys() == figures | {"kv_bytes_per_token"}
    assert found["kv_bytes_per_token"]["formula"] == found["kv_bytes_per_token"]["measured"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--retrieval", "no-such-task"], "evaluate.retrieval.0"),
        (["--retrieval", "multikey", "--samples", "1"], "greater than or equal to 2"),
        (["--text", "none"], "measures nothing"),
        (["--context", "64", "--context", "9999"], "windows of 9999 need"),
    ],
)
def test_the_command_refuses_what_the_job_would(
    options: list[str], words: str, original: Path, conversions: tuple[str, str], prose: Path
) -> None:
    texts = [] if "none" in options else ["--text", str(prose)]
    ran = CliRunner().invoke(cli, ["evaluate", conversions[1], "--base", str(original), *texts, *options])
    assert ran.exit_code == 1
    assert words in ran.stderr
    assert "fix:" in ran.stderr


def test_another_request_does_not_take_over_pieces(
    spec_of: Callable[..., JobSpec], home: Settings, tmp_path: Path
) -> None:
    """Stopped behind its first piece, and then asked for longer windows."""
    run(spec_of(retrieval=[]), tmp_path, home, StopAfter(8))
    assert list((tmp_path / "work" / "pieces").glob("*.json"))
    sink, _ = run(spec_of(retrieval=[], contexts=[80]), tmp_path, home)
    assert sink.of("stage")[-1].finished == 0


def test_an_original_is_measured_alone(
    spec_of: Callable[..., JobSpec], home: Settings, tmp_path: Path
) -> None:
    _, whole = run(spec_of(conversions=[], retrieval=[]), tmp_path, home)
    assert [sorted(row) for row in whole["texts"]] == [
        ["context", "model", "perplexity", "text", "tokens", "windows"]
    ] * 2


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"conversions": ["job:nosuchjob2"]}, ModelError, "no result"),
        ({"contexts": [4096]}, TextError, "tokens, 4 windows of 4096 need"),
        ({"retrieval_contexts": [64]}, TextError, "does not fit 64 tokens"),
        ({"texts": ["no-such-text"]}, TextError, "there is no text"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_weights_are_read(
    changes: dict[str, Any],
    kind: type[WorkbenchError],
    words: str,
    spec_of: Callable[..., JobSpec],
    home: Settings,
    tmp_path: Path,
) -> None:
    with pytest.raises(kind, match=words) as caught:
        run(spec_of(**changes), tmp_path, home)
    assert caught.value.hint
    assert not (tmp_path / "work").exists()


def test_an_original_in_the_place_of_a_conversion_is_refused(
    spec_of: Callable[..., JobSpec], original: Path, home: Settings, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="is no converted model"):
        run(spec_of(conversions=[str(original)]), tmp_path, home)


def test_measuring_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match="measures nothing"):
        parse_spec({"kind": "evaluate", "evaluate": {"texts": []}})


def test_the_tasks_of_a_request_are_those_there_are() -> None:
    """The request is read without torch, so its names are written down twice."""
    assert set(get_args(RetrievalTask)) == set(MAKERS)
