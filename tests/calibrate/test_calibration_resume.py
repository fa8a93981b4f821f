# SPDX-License-Identifier: Apache-2.0
"""A calibration that is stopped or killed anywhere, and continued, leaves the bytes of one that was not."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from torch import Tensor

LAYERS = 4
Steps = Callable[..., Iterator[str]]
Bytes = Callable[[Path], dict[str, bytes]]


@pytest.fixture(scope="module")
def undisturbed() -> dict[int, dict[str, bytes]]:
    """The bytes of a whole run, by the number of windows that go backwards; filled as needed."""
    return {}


@pytest.fixture
def whole(
    undisturbed: dict[int, dict[str, bytes]],
    tiny_checkpoint: Path,
    windows: Tensor,
    steps_of: Steps,
    statistics_bytes: Bytes,
    tmp_path: Path,
) -> Callable[[int], dict[str, bytes]]:
    def make(fisher_windows: int) -> dict[str, bytes]:
        if fisher_windows not in undisturbed:
            folder = tmp_path / f"whole-{fisher_windows}"
            steps = list(steps_of(tiny_checkpoint, windows, folder, fisher_windows=fisher_windows))
            assert len(steps) == LAYERS + (LAYERS + 1 if fisher_windows else 0)
            undisturbed[fisher_windows] = statistics_bytes(folder)
        return undisturbed[fisher_windows]

    return make


@pytest.mark.parametrize("fisher_windows", [0, 4, 6])
def test_nothing_but_statistics_is_left(
    fisher_windows: int, whole: Callable[[int], dict[str, bytes]]
) -> None:
    """One file per layer and direction; with all windows going backwards too."""
    kinds = ("layer", "fisher") if fisher_windows else ("layer",)
    expected = {f"{kind}-{index:05d}.safetensors" for kind in kinds for index in range(LAYERS)}
    assert whole(fisher_windows).keys() == expected


def test_stopping_after_every_step_changes_no_byte(
    tiny_checkpoint: Path,
    windows: Tensor,
    steps_of: Steps,
    statistics_bytes: Bytes,
    whole: Callable[[int], dict[str, bytes]],
    tmp_path: Path,
) -> None:
    """Stopped after each of the steps in turn, one step further every time; nothing is made twice."""
    made: dict[Path, int] = {}
    for stop in range(1, 2 * LAYERS + 2):
        run = steps_of(tiny_checkpoint, windows, tmp_path / "cut")
        for _ in range(stop):
            next(run)
        run.close()
        now = {file: file.stat().st_mtime_ns for file in (tmp_path / "cut").glob("*.safetensors")}
        assert {file: now[file] for file in made} == made
        made = now
    assert list(steps_of(tiny_checkpoint, windows, tmp_path / "cut"))[-1].startswith("layer 0, backwards")
    assert statistics_bytes(tmp_path / "cut") == whole(4)


class Killed(BaseException):
    """The process would be gone here."""


def kill_at(event: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise Killed instead of the `event`-th change of a file name or size."""
    left = [event]

    def counted(change: Callable[..., object]) -> Callable[..., object]:
        def act(*given: object, **named: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return change(*given, **named)

        return act

    for owner, name in ((Path, "rename"), (Path, "unlink"), (os, "truncate")):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))


@pytest.mark.parametrize("fisher_windows", [0, 4])
def test_a_kill_between_any_two_changes_of_a_file_costs_time_only(
    fisher_windows: int,
    tiny_checkpoint: Path,
    windows: Tensor,
    steps_of: Steps,
    statistics_bytes: Bytes,
    whole: Callable[[int], dict[str, bytes]],
    tmp_path: Path,
) -> None:
    """Every rename, removal and cut is tried as the point where the process ends, until none is reached."""
    expected = whole(fisher_windows)
    for event in range(200):
        folder = tmp_path / f"killed-{event}"
        with pytest.MonkeyPatch.context() as patch:
            kill_at(event, patch)
            try:
                list(steps_of(tiny_checkpoint, windows, folder, fisher_windows=fisher_windows))
            except Killed:
                pass
            else:
                break
        list(steps_of(tiny_checkpoint, windows, folder, fisher_windows=fisher_windows))
        assert statistics_bytes(folder) == expected, f"killed at change {event}"
    # forward: hidden states, statistics and the cut or removal of each layer; backward likewise
    assert 3 * LAYERS < event < 199


@pytest.mark.parametrize("lost", ["hidden-00001.f32", "hidden-00004.f32", "layer-00002", "layer-00000"])
def test_losing_files_on_the_way_costs_time_only(
    lost: str,
    tiny_checkpoint: Path,
    windows: Tensor,
    steps_of: Steps,
    statistics_bytes: Bytes,
    whole: Callable[[int], dict[str, bytes]],
    tmp_path: Path,
) -> None:
    """After the forward pass, before the first step backwards: the forward pass makes it again."""
    run = steps_of(tiny_checkpoint, windows, tmp_path / "cut")
    for _ in range(LAYERS):
        next(run)
    run.close()
    for file in (tmp_path / "cut").glob(f"{lost}*"):
        file.unlink()
    list(steps_of(tiny_checkpoint, windows, tmp_path / "cut"))
    assert statistics_bytes(tmp_path / "cut") == whole(4)


@pytest.mark.parametrize("lost", ["gradient-00002.f32", "hidden-00001.f32", "fisher-00003"])
def test_losing_files_on_the_way_back_costs_time_only(
    lost: str,
    tiny_checkpoint: Path,
    windows: Tensor,
    steps_of: Steps,
    statistics_bytes: Bytes,
    whole: Callable[[int], dict[str, bytes]],
    tmp_path: Path,
) -> None:
    """In the middle of the backward pass."""
    run = steps_of(tiny_checkpoint, windows, tmp_path / "cut")
    for _ in range(LAYERS + 3):  # head, layers 3 and 2
        next(run)
    run.close()
    (found,) = (tmp_path / "cut").glob(f"{lost}*")
    found.unlink()
    list(steps_of(tiny_checkpoint, windows, tmp_path / "cut"))
    assert statistics_bytes(tmp_path / "cut") == whole(4)


def test_the_disk_holds_what_is_still_needed_and_no_more(
    tiny_checkpoint: Path, windows: Tensor, steps_of: Steps, tmp_path: Path
) -> None:
    """Whole states of two layers at most, the first windows of the others, two gradients."""
    window = 40 * 64 * 4
    most = 2 * 6 * window + (LAYERS - 1) * 4 * window
    for _ in steps_of(tiny_checkpoint, windows, tmp_path / "disk"):
        sizes = {file.name: file.stat().st_size for file in (tmp_path / "disk").glob("*.f32")}
        assert sum(sizes.values()) <= most
        assert sum(size > 4 * window for size in sizes.values()) <= 2
        assert sum(name.startswith("gradient") for name in sizes) <= 1


def test_finished_statistics_need_no_model(
    tiny_checkpoint: Path, windows: Tensor, steps_of: Steps, tmp_path: Path
) -> None:
    """A second pass writes nothing, not even for a moment."""
    list(steps_of(tiny_checkpoint, windows, tmp_path / "done"))
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "done").iterdir()}
    with pytest.MonkeyPatch.context() as patch:
        kill_at(0, patch)
        assert len(list(steps_of(tiny_checkpoint, windows, tmp_path / "done"))) == 2 * LAYERS + 1
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "done").iterdir()} == before
