# SPDX-License-Identifier: Apache-2.0
"""`--recipe FILE` on the command line: the whole request, and what is said beside it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.main import get_command
from typer.testing import CliRunner

from app.cli.main import cli
from app.cli.recipe import said, spec_from_recipe
from app.cli.request import spec_from_options
from app.services.recipes import write_recipe
from core.errors import SpecError
from core.presets import PRESETS
from core.spec import Calibration, Evaluation, JobSpec, Recipe

SPEC = JobSpec(
    model="owner/name",
    revision="abc",
    keep=None,
    rope_dim=16,
    kv_rank=8,
    calibration=Calibration(seed=7, tokens=4096),
    evaluation=Evaluation(windows=3),
)
Over = Callable[..., JobSpec]


@pytest.fixture
def over(tmp_path: Path) -> Over:
    """The request of `convert --recipe FILE` with more words on the line."""
    file = tmp_path / "recipe.yaml"
    file.write_text(write_recipe(SPEC), encoding="utf-8")
    command = get_command(cli).commands["convert"]  # type: ignore[attr-defined]

    def spec(*words: str) -> JobSpec:
        context = command.make_context("convert", ["--recipe", str(file), "--out", "x", *words])
        return spec_from_recipe(file, said(context))

    return spec


def test_a_recipe_alone_is_the_request(over: Over) -> None:
    """No default of an option takes the place of what the file says."""
    assert over() == SPEC


def test_an_option_changes_its_own_field(over: Over) -> None:
    found = over(
        "--tokens", "128", "--evaluation-context", "64", "--set", "mean_bias=true", "--dtype", "float32"
    )
    assert found == SPEC.model_copy(
        update={
            "calibration": SPEC.calibration.model_copy(update={"tokens": 128}),
            "evaluation": Evaluation(windows=3, context=64),
            "recipe": SPEC.recipe.model_copy(update={"mean_bias": True}),
            "dtype": "float32",
        }
    )


def test_a_budget_on_the_line_replaces_the_budget_of_the_file(over: Over) -> None:
    found = over("--keep", "0.4")
    assert (found.keep, found.rope_dim, found.kv_rank) == (0.4, None, None)
    assert over("--kv-rank", "4").keep is None


def test_a_preset_on_the_line_brings_its_recipe_and_budget(over: Over) -> None:
    found = over("--preset", "mha2mla-81")
    assert (found.preset, found.recipe, found.keep) == ("mha2mla-81", PRESETS["mha2mla-81"].recipe, 0.1875)
    assert found.calibration == SPEC.calibration


def test_another_model_leaves_the_commit_behind(over: Over) -> None:
    assert (over("demo").model, over("demo").revision) == ("demo", None)
    assert over("owner/name").revision == "abc"


def test_the_measurement_can_be_skipped(over: Over) -> None:
    assert over("--evaluation", "none").evaluation is None


def test_a_profile_recipe_is_no_conversion(tmp_path: Path) -> None:
    file = tmp_path / "profile.yaml"
    file.write_text("kind: profile")
    with pytest.raises(SpecError, match="kind profile"):
        spec_from_recipe(file, {})


def test_plan_reads_a_recipe_from_a_file_or_a_pipe(tiny_copy: Path, tmp_path: Path) -> None:
    """The same plan both ways; what is wrong in the file is named with its line."""
    file = tmp_path / "recipe.json"
    text = write_recipe(JobSpec(model=str(tiny_copy), keep=0.5), "json")
    file.write_text(text, encoding="utf-8")

    def plan(*words: str, given: str | None = None) -> Result:
        return CliRunner().invoke(cli, ["plan", *words, "--json"], input=given)

    read, piped = plan("--recipe", str(file)), plan("--recipe", "-", given=text)
    assert json.loads(read.stdout) == json.loads(piped.stdout)
    before = json.loads(read.stdout)["kv_bytes_per_token_before"]
    assert json.loads(read.stdout)["kv_bytes_per_token_after"] <= before / 2
    wrong = plan("--recipe", "-", given="model: demo\nkeeep: 0.5")
    assert wrong.exit_code == 1
    assert json.loads(wrong.stdout)["error"] == "line 2: there is no field 'keeep'"
    nothing = plan()
    assert nothing.exit_code == 1
    assert "--recipe FILE" in json.loads(nothing.stdout)["hint"]


def test_a_budget_of_weights_is_taken_away_by_name(over: Over) -> None:
    """That of a preset, and that of a file with what only such a budget can mean."""
    assert over("--preset", "latentllm").weights_keep == 0.8
    assert over("--preset", "latentllm", "--weights-keep", "none").weights_keep is None
    assert spec_from_options("latentllm", (), weights_keep="none").weights_keep is None
    assert spec_from_options("latentllm", (), weights_keep="0.6").weights_keep == 0.6
    smaller = SPEC.model_dump(mode="json") | {"weights_keep": 0.7, "recipe": {"junction": "left"}}
    assert over("--weights-keep", "0.7", "--set", "junction=left") == JobSpec.model_validate(smaller)
    with pytest.raises(SpecError, match="weights_keep"):
        over("--weights-keep", "most")


def test_without_a_budget_of_weights_its_choices_go(tmp_path: Path) -> None:
    file = tmp_path / "smaller.yaml"
    smaller = JobSpec(weights_keep=0.7, recipe=Recipe(junction="left", mean_bias=True))
    file.write_text(write_recipe(smaller), encoding="utf-8")
    assert spec_from_recipe(file, {"weights_keep": "none"}) == JobSpec(recipe=Recipe(mean_bias=True))
