# SPDX-License-Identifier: Apache-2.0
"""A profile runs as a job does: cancelled, resumed, found again, with a summary as its result."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cancelling import CancelAfter
from list_sink import ListSink

from core import kinds
from core.errors import Cancelled
from core.events import NeverCancel
from core.profiles import FILE, load_profile, profile_folder
from core.settings import Settings
from core.spec import JobSpec
from core.workspace import Workspace


def workspace(tmp_path: Path, name: str) -> Workspace:
    return Workspace(work=tmp_path / name / "work", result=tmp_path / name / "result")


def test_a_profile_job_is_resumed_and_leaves_a_summary(
    tiny_spec: Callable[..., JobSpec], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    spec = tiny_spec(tiny_checkpoint).model_copy(update={"kind": "profile"})
    settings, one, first = Settings(data_dir=tmp_path / "home"), workspace(tmp_path, "one"), ListSink()
    with pytest.raises(Cancelled):
        kinds.run(spec, one, first, CancelAfter(6), settings)
    assert not one.result.exists()
    again = ListSink()
    kinds.run(spec, one, again, NeverCancel(), settings)
    found = load_profile(one.result)
    stored = profile_folder(settings.home, found.fingerprint)
    assert (one.result / FILE).read_bytes() == (stored / FILE).read_bytes()
    assert not one.work.exists()
    # the spread is a factor: 1 would be a prediction that never misses
    assert again.metrics["profile_spread_quality"] >= 1
    assert again.metrics["profile_spread_fast"] >= 1
    assert again.metrics["profile_tokens"] == again.metrics["calibrated_tokens"] == 256
    last = again.of("progress")[-1]
    assert last.done == last.total


def test_a_profile_that_is_there_is_found_and_not_made_again(
    tiny_spec: Callable[..., JobSpec], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    spec = tiny_spec(tiny_checkpoint).model_copy(update={"kind": "profile"})
    settings = Settings(data_dir=tmp_path / "home")
    one, other, sink = workspace(tmp_path, "one"), workspace(tmp_path, "other"), ListSink()
    kinds.run(spec, one, ListSink(), NeverCancel(), settings)
    kinds.run(spec, other, sink, NeverCancel(), settings)
    assert (other.result / FILE).read_bytes() == (one.result / FILE).read_bytes()
    assert sink.metrics["calibrated_tokens"] == 0
    assert not sink.of("progress")


def test_a_profile_of_an_older_version_keeps_its_statistics(
    tiny_spec: Callable[..., JobSpec], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """Only what it says of them is made again, with the same result as from nothing."""
    spec = tiny_spec(tiny_checkpoint).model_copy(update={"kind": "profile"})
    settings, one, other = Settings(data_dir=tmp_path / "home"), *(workspace(tmp_path, n) for n in "ab")
    kinds.run(spec, one, ListSink(), NeverCancel(), settings)
    found = load_profile(one.result)
    stored = profile_folder(settings.home, found.fingerprint)
    older = json.loads((stored / FILE).read_text()) | {"version": 2}
    (stored / FILE).write_text(json.dumps(older))
    before = {file.name: file.stat().st_mtime_ns for file in (stored / "statistics").iterdir()}
    kinds.run(spec, other, ListSink(), NeverCancel(), settings)
    assert (other.result / FILE).read_bytes() == (one.result / FILE).read_bytes()
    assert {file.name: file.stat().st_mtime_ns for file in (stored / "statistics").iterdir()} == before
