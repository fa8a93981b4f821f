# SPDX-License-Identifier: Apache-2.0
"""A model without rotary pairs has pages, figures and tables like any other, where they make sense."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from app.cli.main import cli
from app.main import create_api
from app.services.estimate import estimate
from app.services.tuning import pair_scores
from app.services.workbench import Workbench
from app.ui.components.facts import facts_line
from app.ui.components.model import model_facts
from app.ui.form import Form, initial
from app.ui.pages.job_figures import fill
from app.ui.pages.model_figures import CONTRIBUTION, DAMAGE, SUMMED, pair_choices, pair_plot, spectra_plots
from app.ui.pages.new_pairs import NOTHING_SENT, pair_updates
from app.ui.strings import NO_PAIRS
from core import kinds
from core.events import NeverCancel
from core.settings import Settings
from core.spec import Calibration, JobSpec
from core.workspace import Workspace
from tests.app.test_tuning import SilentBell
from tests.engine.list_sink import ListSink
from tests.families.tiny import LAYERS, WIDTH, make_family


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, sample_text: Path) -> dict[str, Any]:
    """A tiny OPT."""
    model = make_family("opt", tmp_path_factory.mktemp("opt"))
    calibration = Calibration(text=str(sample_text), tokens=480, context=96)
    return {"model": str(model), "calibration": calibration.model_dump(), "evaluation": None}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, asked: dict[str, Any]) -> Iterator[Workbench]:
    """The workbench with a profile of it."""
    home = tmp_path_factory.mktemp("home")
    settings = Settings(data_dir=home)
    spec = JobSpec.model_validate(asked | {"kind": "profile"})
    workspace = Workspace(work=home / "work", result=home / "result")
    kinds.run(spec, workspace, ListSink(), NeverCancel(), settings)
    with TestClient(create_api(settings, SilentBell())) as client:
        workbench: Workbench = client.app.state.workbench  # type: ignore[attr-defined]
        yield workbench


@pytest.mark.parametrize("preset", ["quality", "fast"])
def test_the_new_page_has_a_plan_a_prediction_and_no_pair_to_choose(
    preset: str, bench: Workbench, asked: dict[str, Any]
) -> None:
    """Half of the cache is enough for everything, so no loss is predicted there."""
    request = asked | {"preset": preset, "keep": 0.5}
    found = estimate(bench, request, 128, 2)
    assert found.problems == ()
    assert found.plan is not None
    assert found.prediction is not None
    assert found.prediction.loss < 1e-6
    assert [layer.rank for layer in found.layers] == [WIDTH] * LAYERS
    assert found.decode_flops_after > 0
    tighter = estimate(bench, request | {"keep": 0.25}, 128, 2)
    assert tighter.prediction is not None
    assert tighter.prediction.loss > 1e-3
    assert pair_scores(bench, "", "", request) is None
    changes, _ = pair_updates(bench, Form(initial()).with_values(model=asked["model"]), found, NOTHING_SENT)
    assert changes["map"] == {"words": NO_PAIRS}


def test_the_models_page_says_that_positions_are_learned(bench: Workbench, asked: dict[str, Any]) -> None:
    facts = bench.facts.read(asked["model"], None, bench.settings)
    assert "learned: no rotation" in model_facts(facts)
    assert "rotary" not in model_facts(facts)
    assert "OPT" in facts_line(facts)
    profile = bench.profiles.newest(bench.settings.home, facts.name)
    assert profile is not None
    assert profile.inv_freq == ()
    assert pair_choices(profile) == []
    for name in (CONTRIBUTION, DAMAGE):
        caption, *_ = pair_plot(profile, facts, name, SUMMED)
        assert NO_PAIRS in caption
    assert all(spectra_plots(profile, facts, "fast"))


@pytest.mark.parametrize("name", ["contribution", "damage"])
def test_the_data_of_a_plot_that_cannot_be_is_refused_in_words(
    name: str, bench: Workbench, asked: dict[str, Any]
) -> None:
    with TestClient(create_api(bench.settings, SilentBell())) as client:
        query = {"model": asked["model"], "preset": "fast"}
        answer = client.get(f"/api/v1/models/figures/{name}.json", params=query)
    assert answer.status_code == 422
    assert "positions are learned" in answer.text


def test_a_finished_job_shows_why_there_is_no_heatmap() -> None:
    errors = {"key_error": 0.1, "value_error": 0.1}
    row = {"index": 0, "cached_numbers": 64, "kv_lora_rank": 64, "base_numbers": 128, **errors}
    caption, *_ = fill("job", {"layers": {"rows": [row]}}, {})
    assert NO_PAIRS in caption
    # before the layers are known there is nothing to say
    assert fill("job", {}, {})[0] == ""


def test_the_command_line_says_so_too(asked: dict[str, Any]) -> None:
    runner = CliRunner()
    said = runner.invoke(cli, ["inspect", asked["model"]]).output
    assert "positions    learned, context 256" in said
    planned = runner.invoke(cli, ["plan", asked["model"], "--preset", "quality", "--keep", "0.5"]).output
    assert f"{WIDTH} numbers: latent {WIDTH}, on average\n" in planned
    assert "one latent, read as it is" in planned
