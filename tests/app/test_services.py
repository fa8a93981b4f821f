# SPDX-License-Identifier: Apache-2.0
"""Services: estimates that never raise, commands that can be pasted, predictions that say their range."""

import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from app.cli.main import cli
from app.services.copy_as import as_command, as_curl, as_recipe
from app.services.downloads import archive_name
from app.services.estimate import estimate
from app.services.requests import submit
from app.services.widths import cached_words
from app.services.workbench import Workbench
from app.ui.components.cost import cost_card
from core.curves import LayerCurves, RecipeCurves
from core.loss_fit import LossFit
from core.presets import PRESETS, spec_from_preset
from core.profiles import Profile
from core.spec import JobSpec, parse_spec
from tests.app.conftest import finish_job

TEXT = {"calibration": {"text": "python-docs"}, "evaluation": {"text": "python-docs"}}


def test_an_estimate_is_facts_and_plan(bench: Workbench, tiny_checkpoint: Path) -> None:
    """Bytes before and after at context x batch; the server's own time is part of the answer."""
    answer = estimate(bench, {"model": str(tiny_checkpoint), "keep": 0.5} | TEXT, 1000, 4)
    assert answer.problems == ()
    assert answer.facts is not None
    assert answer.plan is not None
    assert answer.cache_bytes_before == answer.facts.kv_bytes_per_token * 4000
    assert answer.cache_bytes_after == answer.plan.kv_bytes_per_token_after * 4000
    again = estimate(bench, {"model": str(tiny_checkpoint), "keep": 0.6} | TEXT, 1000, 4)
    # reported, not asserted: a shared machine may pause at any time
    print(f"\nestimate: first {answer.milliseconds:.1f} ms, while dragging {again.milliseconds:.2f} ms")


def test_what_is_wrong_stands_beside_what_is_known(bench: Workbench, tiny_checkpoint: Path) -> None:
    """A bad budget hides neither the model's facts nor a second problem."""
    request = {"model": str(tiny_checkpoint), "keep": 7.0}
    answer = estimate(bench, request, 1, 1)
    assert answer.facts is not None
    assert answer.plan is None
    (problem,) = answer.problems
    assert problem.field == "keep"
    assert problem.hint
    missing = estimate(bench, {"model": "/nowhere", "keep": 7.0}, 1, 1)
    assert {one.field for one in missing.problems} == {"model", "keep"}
    assert {one.field for one in estimate(bench, {"model": ""}, 1, 1).problems} == {"model"}


def test_facts_are_read_again_when_the_files_change(bench: Workbench, tiny_copy: Path) -> None:
    """The cache is keyed by the files' time and size, so an edited config is noticed."""
    request = {"model": str(tiny_copy), "keep": 0.5} | TEXT
    first = estimate(bench, request, 1, 1)
    config = json.loads((tiny_copy / "config.json").read_text())
    (tiny_copy / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 999}))
    os.utime(tiny_copy / "config.json", ns=(1, 1))
    second = estimate(bench, request, 1, 1)
    assert first.facts is not None
    assert second.facts is not None
    assert (first.facts.max_context, second.facts.max_context) == (512, 999)


def test_a_copied_recipe_and_curl_make_the_same_spec() -> None:
    """What is pasted elsewhere is this job, whatever the text contains."""
    spec = spec_from_preset(
        "mha2mla-81", model='/it\'s a "folder"/ünï', keep=0.25, calibration={"text": "$(rm -rf /)"}
    )
    assert parse_spec(json.loads(as_recipe(spec))) == spec
    words = shlex.split(as_curl(spec, "http://127.0.0.1:7860/").replace("\\\n", ""))
    assert words[:4] == ["curl", "-X", "POST", "http://127.0.0.1:7860/api/v1/jobs"]
    assert JobSpec.model_validate(json.loads(words[-1])) == spec


def test_a_copied_command_is_understood_by_the_command_line() -> None:
    """Parsed by the real command, it says the same preset, budget, text and device."""
    spec = spec_from_preset(
        "mha2mla-81",
        model="demo",
        keep=0.5,
        calibration={"text": "news", "tokens": 4096, "context": 256},
        recipe={"rope_select": "uniform", "rope_select_start": 1, "factor_form": "split"},
        device="cpu",
        evaluation={"text": "python-docs"},
    )
    command = get_command(cli).commands["convert"]  # type: ignore[attr-defined]
    said = command.make_context("convert", shlex.split(as_command(spec))[2:]).params
    assert (said["model"], said["preset"], said["keep"]) == ("demo", "mha2mla-81", 0.5)
    assert (said["calibration"], said["tokens"], said["context"]) == ("news", 4096, 256)
    assert said["changes"] == ["rope_select=uniform", "rope_select_start=1", "factor_form=split"]
    assert (said["device"], said["evaluation"]) == ("cpu", "python-docs")


def test_a_copied_command_names_every_choice_that_is_not_the_default() -> None:
    """And quotes what a shell would interpret."""
    spec = spec_from_preset("mha2mla", model="a b", recipe={"rope_select": "high"}, dtype="float32")
    words = shlex.split(as_command(spec))
    assert words[:3] == ["mla-workbench", "convert", "a b"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options["--preset"] == "mha2mla"
    assert options["--keep"] == "0.3125"
    assert options["--set"] == "rope_select=high"
    assert options["--dtype"] == "float32"


@pytest.mark.parametrize(
    ("model", "stem"), [("/x/模型-7B", "7B"), ("/x/模型", "model"), ("a/b.c_d", "b.c_d")]
)
def test_the_name_of_an_archive_fits_an_http_header(bench: Workbench, model: str, stem: str) -> None:
    job = bench.store.submit(JobSpec(model=model))
    assert archive_name(job) == f"{stem}-mla-{job.id}"


def test_a_stored_job_names_its_files_wherever_the_worker_runs(
    bench: Workbench, tiny_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker's working directory is not the one the request was made in."""
    monkeypatch.chdir(tiny_copy.parent)
    Path("text.txt").write_text("some words " * 1000)
    texts = {"calibration": {"text": "text.txt"}, "evaluation": {"text": "python-docs"}}
    spec = submit(bench, {"model": tiny_copy.name, "keep": 0.5} | texts).spec
    assert spec.model == str(tiny_copy)
    assert spec.calibration.text == str(tiny_copy.parent / "text.txt")
    assert spec.evaluation is not None
    assert spec.evaluation.text == "python-docs"


def test_a_stored_job_names_the_commit_of_a_hub_model(
    bench: Workbench, tiny_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a Hub cache on disk, as it is after a download: the branch may have moved when the job runs."""
    commit, cache = "c0ffee" * 6 + "c0ff", tmp_path / "hub" / "models--some--model"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    shutil.copytree(tiny_copy, cache / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert submit(bench, {"model": "some/model", "keep": 0.5} | TEXT).spec.revision == commit


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ("quality", "latent 20, on average"),
        ("transmla", "latent 16 + 4 shared rotary dims"),
        ("mha2mla", "latent 16 + 2 × 2 rotary dims"),
    ],
)
def test_what_is_cached_is_said_as_the_layout_has_it(
    bench: Workbench, tiny_checkpoint: Path, preset: str, words: str
) -> None:
    """20 of 64 numbers: never "0 x 16" where no rotated key is cached."""
    spec = spec_from_preset(preset, model=str(tiny_checkpoint))
    answer = estimate(bench, spec.model_dump() | TEXT, 1, 1)
    assert answer.plan is not None
    assert answer.plan.layers[0].cached_numbers == 20
    assert cached_words(answer.plan, spec.recipe) == words
    assert words in cost_card(answer)


def test_time_is_foreseen_from_the_last_job_here_or_not_at_all(
    bench: Workbench, tiny_checkpoint: Path
) -> None:
    """The same request takes as long again, more tokens take longer, gradients longer still."""
    spec = spec_from_preset("mha2mla", model=str(tiny_checkpoint), **TEXT)
    asked = spec.model_dump()
    assert estimate(bench, asked, 1, 1).seconds is None
    finish_job(bench, {"config.json": b"{}"}, spec, seconds=100.0)
    # by construction: the fixed part and the rate come from that very job
    assert estimate(bench, asked, 1, 1).seconds == pytest.approx(100.0)
    longer = estimate(bench, asked | {"calibration": {"tokens": 300_000} | TEXT["calibration"]}, 1, 1)
    assert longer.seconds is not None
    assert longer.seconds > 200
    backwards = asked["recipe"] | {"factor_output": "fisher"}
    slower = estimate(bench, asked | {"recipe": backwards}, 1, 1)
    assert slower.seconds is not None
    assert slower.seconds > 105


def test_a_profile_shortens_the_time_that_is_foreseen(bench: Workbench, tiny_checkpoint: Path) -> None:
    """By what calibration would take; not when it is of another text, or lacks the backward pass."""
    spec = spec_from_preset("mha2mla", model=str(tiny_checkpoint), **TEXT)
    finish_job(bench, {"config.json": b"{}"}, spec, seconds=100.0)
    asked = spec.model_dump()
    without = estimate(bench, asked, 1, 1)
    assert without.facts is not None
    profile = Profile(
        fingerprint="one",
        model=without.facts.name,
        text=spec.calibration.text,
        tokens=spec.calibration.tokens,
        fisher_windows=0,
        inv_freq=(),
        contribution=(),
        recipes=(),
    )
    folder = bench.settings.home / "profiles" / "one"
    folder.mkdir(parents=True)

    def seconds(stored: Profile, request: dict[str, Any]) -> float:
        (folder / "profile.json").write_text(stored.model_dump_json())
        found = estimate(bench, request, 1, 1).seconds
        assert found is not None
        return found

    assert seconds(profile, asked) < 0.9 * 100.0
    assert seconds(profile.model_copy(update={"text": "another"}), asked) == pytest.approx(100.0)
    backwards = asked | {"recipe": asked["recipe"] | {"factor_output": "fisher"}}
    assert seconds(profile, backwards) > 100.0


def test_quality_is_predicted_from_a_profile_or_not_at_all(bench: Workbench, tiny_checkpoint: Path) -> None:
    """Without a profile the card says what would make it known; a new profile is noticed."""
    request = {"model": str(tiny_checkpoint), "preset": "quality"} | TEXT
    unknown = estimate(bench, request, 1, 1)
    assert unknown.prediction is None
    assert "once the model has a profile" in cost_card(unknown)
    assert unknown.facts is not None
    # each of 4 layers loses 0.63 nats at rank 1, nothing at rank 64, and a straight line between
    layer = LayerCurves(rope_dims=(0,), rope_lost=(0.0,), tail=((0.63, 0.0),))
    folder = bench.settings.data_dir / "profiles" / "one"
    folder.mkdir(parents=True)
    for scale in (1.0, 2.0):
        curves = RecipeCurves(
            recipe=PRESETS["quality"].recipe,
            ranks=(1, 64),
            layers=(layer,) * 4,
            rope_weight=1.0,
            fit=LossFit(knots=((1.0, scale),), slope=1.0, spread=1.5),
            points=(),
        )
        profile = Profile(
            fingerprint="one",
            model=unknown.facts.name,
            text="x",
            tokens=1,
            fisher_windows=0,
            inv_freq=(),
            contribution=(),
            recipes=(curves,),
        )
        (folder / "profile.json").write_text(profile.model_dump_json())
        os.utime(folder / "profile.json", ns=(int(scale), int(scale)))
        known = estimate(bench, request, 1, 1)
        assert known.prediction is not None
        # rank 20 of 64
        assert known.prediction.loss == pytest.approx(scale * 4 * 0.63 * (64 - 20) / 63)
        assert "predicted" in cost_card(known)
    assert estimate(bench, request | {"preset": "mha2mla"}, 1, 1).prediction is None
