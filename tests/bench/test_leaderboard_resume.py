# SPDX-License-Identifier: Apache-2.0
"""What is finished is not done again, and what is measured is what `mla-workbench evaluate` measures."""

import shutil
from pathlib import Path

import pytest
import torch
from leaderboard.convert import ConversionFailed, Converter
from leaderboard.quality import RecordedModel
from leaderboard.results import Conversion, Failure, Result, Results, fingerprint
from leaderboard.rows import Row
from leaderboard.run import Bench
from leaderboard.setting import Setting
from made_up_rows import make_result

from core.errors import SpecError, StateError
from core.evaluate import WholeModel, evaluate, load_model
from core.settings import Settings
from core.spec import Calibration

ROW = Row(name="mha2mla", preset="mha2mla", keep=0.5, is_timed=True, by_position=True)
Converted = tuple[Path, Conversion]


@pytest.fixture(scope="module")
def tiny_setting(tiny_checkpoint: Path, sample_text: Path) -> Setting:
    """A run over the tiny model that takes as long as its processes take to start."""
    return Setting(
        model=str(tiny_checkpoint),
        calibration=Calibration(text=str(sample_text), tokens=256, context=64),
        texts=(str(sample_text),),
        context=32,
        windows=3,
        long_text=str(sample_text),
        long_context=600,
        long_windows=1,
    )


@pytest.fixture(scope="module")
def tiny_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data_dir=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def bench(tiny_setting: Setting, tiny_settings: Settings, store: Path) -> Bench:
    return Bench(tiny_setting, tiny_settings, store, print)


@pytest.fixture(scope="module")
def interrupted(
    bench: Bench, tiny_setting: Setting, tiny_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Converted:
    """A run that was stopped between converting the row and measuring it; a copy of its model."""
    converter = Converter(bench.results.folder / "work", tiny_settings)
    name = bench.results.path(ROW).stem
    model, conversion = converter.convert(ROW.spec(tiny_setting), name, is_timed=True)
    return shutil.copytree(model, tmp_path_factory.mktemp("kept") / "model"), conversion


@pytest.fixture(scope="module")
def result(bench: Bench, interrupted: Converted) -> Result:
    """The same run, continued."""
    (outcome,) = bench.run([ROW])
    assert isinstance(outcome, Result)
    return outcome


def test_a_conversion_that_was_finished_is_measured_and_not_repeated(
    result: Result, interrupted: Converted
) -> None:
    """Equal to the last digit of its seconds: no second conversion took place."""
    assert result.conversion == interrupted[1]
    assert set(result.conversion.stages) == {"preparing", "calibrating", "converting", "verifying"}
    assert result.conversion.metrics["kv_bytes_per_token_measured"] == 4 * 64 * 0.5 * 4


def test_quality_is_what_evaluate_measures(
    result: Result, interrupted: Converted, tiny_setting: Setting, tiny_checkpoint: Path, sample_text: Path
) -> None:
    """Though the original is a record here; the same float32 arithmetic, so equal to rounding."""
    text = sample_text.read_text(encoding="utf-8")
    found = evaluate(interrupted[0], text, base_folder=tiny_checkpoint, context=32, windows=3)
    measured = result.quality[str(sample_text)].model_dump()
    assert measured == pytest.approx({name: found[name] for name in measured}, rel=1e-9)
    long = evaluate(
        interrupted[0], text, base_folder=tiny_checkpoint, context=600, windows=1, by_position=True
    )
    assert [one.ratio for one in result.positions] == pytest.approx(
        [one["ratio"] for one in long["by_position"]], rel=1e-9
    )


def test_a_finished_row_is_taken_from_its_file(
    result: Result, bench: Bench, tiny_setting: Setting, tiny_settings: Settings, store: Path
) -> None:
    """By a new run, which says so in the same words; the converted model is gone, its disk space free."""
    assert not (bench.results.folder / "work" / bench.results.path(ROW).stem).exists()
    said: list[str] = []
    again = Bench(tiny_setting, tiny_settings, store, said.append)
    assert list(again.run([ROW])) == [result]
    assert len(said) == 1
    assert said[0].startswith("[1/1] mha2mla 0.5 mha2mla: ")


def test_a_budget_the_plan_refuses_is_an_outcome(bench: Bench) -> None:
    """Without starting a process; other rows go on."""
    (outcome,) = bench.run([Row(name="mha2mla", preset="mha2mla", keep=0.01)])
    assert isinstance(outcome, Failure)
    assert outcome.is_refused
    assert "no room" in outcome.message


def test_a_wrong_row_is_refused_before_the_first_is_converted(bench: Bench) -> None:
    wrong = Row(name="x", preset="mha2mla", keep=0.5, switched={"factor_form": "spilt"})
    with pytest.raises(SpecError, match="spilt"):
        next(bench.run([Row(name="mha2mla", preset="mha2mla", keep=0.25), wrong]))


def test_a_conversion_that_fails_says_why(
    tiny_setting: Setting, tiny_settings: Settings, tmp_path: Path
) -> None:
    short = tmp_path / "short.txt"
    short.write_text("too short", encoding="utf-8")
    asked = tiny_setting.calibration.model_copy(update={"text": str(short)})
    spec = ROW.spec(tiny_setting.model_copy(update={"calibration": asked}))
    with pytest.raises(ConversionFailed, match="calibration text has 9 tokens"):
        Converter(tmp_path / "work", tiny_settings).convert(spec, "row", is_timed=False)


def test_a_run_stops_when_the_programs_are_edited_under_it(
    tiny_setting: Setting, tiny_settings: Settings, tmp_path: Path
) -> None:
    """Else one page would show the figures of two programs."""
    versions = iter(["before", "after"])
    bench = Bench(tiny_setting, tiny_settings, tmp_path, print, lambda: next(versions))
    with pytest.raises(StateError, match="edited while the leaderboard ran"):
        list(bench.run([ROW]))


@pytest.mark.parametrize("change", ["code", "weights", "text"])
def test_other_programs_weights_or_texts_are_another_run(change: str) -> None:
    code, weights, text = "c", "w", "t"
    changed = [
        value + "!" if name == change else value
        for name, value in (("code", code), ("weights", weights), ("text", text))
    ]
    first = fingerprint(code, {"model": weights}, [text])
    assert fingerprint(code, {"model": weights}, [text]) == first
    assert fingerprint(changed[0], {"model": changed[1]}, [changed[2]]) != first


def test_a_row_is_found_by_all_that_was_asked(tmp_path: Path) -> None:
    """Another budget, switch or number of windows is another row; a damaged file is none."""
    results = Results(tmp_path, Setting())
    row = Row(name="mha2mla", preset="mha2mla", keep=0.5)
    found = make_result("mha2mla", 0.5, float("inf"))
    results.save(found)
    assert results.load(row) == found, "an infinite perplexity is a figure too"
    assert results.load(row.model_copy(update={"keep": 0.25})) is None
    assert results.load(row.model_copy(update={"switched": {"factor_form": "split"}})) is None
    assert Results(tmp_path, Setting(windows=32)).load(row) is None
    results.path(row).write_text('{"row":', encoding="utf-8")
    assert results.load(row) is None


def test_the_original_is_run_once_per_window(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """The record answers bit for bit, and without the model's layers."""
    model = load_model(tiny_checkpoint, dtype=torch.float32, device="cpu")
    whole = WholeModel(model)
    window = torch.arange(40)
    expected = whole.hidden(window)
    assert torch.equal(RecordedModel(whole, tmp_path).hidden(window), expected)
    model.model.layers = torch.nn.ModuleList()
    recorded = RecordedModel(whole, tmp_path)
    assert torch.equal(recorded.hidden(window), expected)
    assert not torch.equal(recorded.hidden(window + 1), expected), "another window is another record"
