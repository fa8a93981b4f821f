# SPDX-License-Identifier: Apache-2.0
"""A profile is made once, predicts every budget, and spares conversions their calibration."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cancelling import CancelAfter
from folder_digest import digest

from core.errors import Cancelled, StateError
from core.events import NeverCancel
from core.facts import read_facts
from core.planning import make_plan
from core.profiles import FILE, find_statistics, load_profile, newest_profile
from core.profiling import FITTED, make_profile
from core.settings import Settings
from core.spec import JobSpec
from core.widths import Widths, solve

Make = Callable[..., JobSpec]


class Silent:
    """Hears nothing."""

    def emit(self, event: object) -> None:
        del event


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    # the same home as convert_to's
    return Settings(data_dir=tmp_path / "home")


@pytest.fixture(scope="module")
def made(tiny_spec: Make, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile to look at, and to copy."""
    home = Settings(data_dir=tmp_path_factory.mktemp("made"))
    return make_profile(tiny_spec(tiny_checkpoint), home, Silent(), NeverCancel())


def test_a_profile_predicts_and_is_found_again(
    tiny_spec: Make, tiny_checkpoint: Path, convert_to: Callable[..., tuple], home: Settings
) -> None:
    spec = tiny_spec(tiny_checkpoint, preset="quality", keep=0.4)
    without, _ = convert_to(spec, "without")
    folder = make_profile(spec, home, Silent(), NeverCancel())
    found = load_profile(folder)
    facts = read_facts(str(tiny_checkpoint), settings=home)
    assert newest_profile(home.data_dir, facts.name) == found

    losses = []
    for keep in (0.15, 0.3, 0.6):
        asked = spec.model_copy(update={"keep": keep})
        assert not make_plan(asked, facts).problems
        predicted = found.predict(asked.recipe, [solve(asked, facts)] * facts.layers)
        assert predicted is not None
        assert predicted.low <= predicted.loss <= predicted.high
        losses.append(predicted.loss)
    assert losses[0] > losses[1] > losses[2], "a smaller cache is predicted to lose more"
    other = spec.recipe.model_copy(update={"factor_output": "balanced"})
    assert found.predict(other, [Widths(0, 10)] * facts.layers) is None

    with_profile, sink = convert_to(spec, "with")
    assert any("not calibrating" in event.message for event in sink.of("log"))
    assert digest(with_profile) == digest(without)
    assert (
        sink.metrics["kl_predicted_low"] <= sink.metrics["kl_predicted"] <= sink.metrics["kl_predicted_high"]
    )
    # made already: found, not made again
    assert make_profile(spec, home, Silent(), NeverCancel()) == folder


def test_the_stored_points_are_what_was_measured(made: Path) -> None:
    found = load_profile(made)
    for curves in found.recipes:
        budgets, others = curves.points[: len(FITTED)], curves.points[len(FITTED) :]
        assert [point.keep for point in budgets] == pytest.approx(FITTED, abs=0.02)
        # where dims rotate, their number is varied at one budget
        assert bool(others) == (curves.recipe.layout != "pre-rope")
        assert len({point.rope_dim for point in others} | {0}) == len(others) + 1
        assert all(point.measured > 0 for point in curves.points)
        for point in curves.points:
            predicted = found.predict(
                curves.recipe, [Widths(point.rope_dim, point.rank)] * len(curves.layers)
            )
            assert predicted is not None
            assert predicted.low * 0.999 <= point.measured <= predicted.high * 1.001


def test_stopping_a_profile_changes_no_byte(
    tiny_spec: Make, tiny_checkpoint: Path, tmp_path: Path, made: Path
) -> None:
    spec = tiny_spec(tiny_checkpoint)
    for checks in (2, 7, 12):
        other = Settings(data_dir=tmp_path / f"home-{checks}")
        with pytest.raises(Cancelled):
            make_profile(spec, other, Silent(), CancelAfter(checks + 1))
        resumed = make_profile(spec, other, Silent(), NeverCancel())
        assert (resumed / FILE).read_bytes() == (made / FILE).read_bytes()


def test_a_damaged_profile_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(StateError, match="not a profile") as caught:
        load_profile(tmp_path)
    assert "profile" in caught.value.hint


@pytest.mark.parametrize("content", ["{", '{"version": 1}'])
def test_a_damaged_profile_is_made_again(
    content: str, tiny_spec: Make, tiny_checkpoint: Path, home: Settings, made: Path
) -> None:
    spec = tiny_spec(tiny_checkpoint)
    folder = shutil.copytree(made, home.home / "profiles" / made.name)
    whole = (folder / FILE).read_text()
    (folder / FILE).write_text(content)
    assert find_statistics(home.home, load_fingerprint(whole), 0) is None
    assert make_profile(spec, home, Silent(), NeverCancel()) == folder
    assert (folder / FILE).read_text() == whole


def test_a_home_with_a_tilde_is_found(
    tiny_spec: Make, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = make_profile(
        tiny_spec(tiny_checkpoint), Settings(data_dir=Path("~/mla")), Silent(), NeverCancel()
    )
    assert folder.is_relative_to(tmp_path / "mla")


def load_fingerprint(text: str) -> str:
    return str(json.loads(text)["fingerprint"])
