# SPDX-License-Identifier: Apache-2.0
"""Places where no result can be written, and disks that run full."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.engine import convert
from core.errors import OutputError
from core.events import Event, NeverCancel, NullSink
from core.preflight import prepare
from core.settings import Settings
from core.spec import JobSpec
from core.workspace import Workspace

Spec = Callable[..., JobSpec]


def workspace_of(out: Path) -> Workspace:
    return Workspace(work=out.with_name(out.name + ".partial"), result=out)


def refusal(spec: JobSpec, out: Path) -> OutputError:
    with pytest.raises(OutputError) as caught:
        prepare(spec, workspace_of(out), Settings())
    assert caught.value.hint
    assert caught.value.field == "out"
    return caught.value


def test_an_output_that_exists_is_not_touched(spec: Spec, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("mine")
    assert "exists already" in refusal(spec(), out).message
    assert [file.name for file in out.iterdir()] == ["precious"]
    assert not (tmp_path / "out.partial").exists()


def test_a_file_where_a_folder_should_be(spec: Spec, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = refusal(spec(), tmp_path / "file" / "out")
    assert "cannot be written" in error.message
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_read_only_folder(spec: Spec, tmp_path: Path) -> None:
    """Permission bits do not bind root, so root is sent to /proc, which nobody can write."""
    parent = Path("/proc/self") if os.geteuid() == 0 else tmp_path / "locked"
    if os.geteuid() != 0:
        parent.mkdir(mode=0o500)
    assert "cannot be written" in refusal(spec(), parent / "results" / "out").message
    assert not (parent / "results").exists()


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A real file system of as many MB as the test asks for; only root may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={request.param}m", "none", str(disk)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("small_disk", [2], indirect=True)
def test_a_disk_that_is_too_small_is_refused_before_any_work(small_disk: Path, spec: Spec) -> None:
    error = refusal(spec(), small_disk / "results" / "out")
    assert "the disk has 2 MB free, the conversion needs" in error.message
    assert "free some space" in error.hint
    assert list(small_disk.iterdir()) == []


class FillDisk:
    """When `stage` begins, somebody else writes until the disk is full."""

    def __init__(self, disk: Path, stage: str) -> None:
        self._disk = disk
        self._stage = stage

    def emit(self, event: Event) -> None:
        if event.kind == "stage" and event.stage == self._stage:
            with (self._disk / "somebody-else").open("wb") as handle:
                os.posix_fallocate(handle.fileno(), 0, shutil.disk_usage(self._disk).free)


@pytest.mark.parametrize("stage", ["calibrating", "converting", "verifying"])
@pytest.mark.parametrize("small_disk", [32], indirect=True)
def test_a_disk_that_fills_up_during_the_work_loses_no_work(stage: str, small_disk: Path, spec: Spec) -> None:
    """No result and no crash; with space again the same job goes on and ends."""
    workspace, settings = workspace_of(small_disk / "out"), Settings()
    job = spec(evaluation=None).model_copy(update={"evaluation": None})
    with pytest.raises(OutputError, match="No space left") as caught:
        convert(job, workspace, FillDisk(small_disk, stage), NeverCancel(), settings)
    assert "free some space" in caught.value.hint
    assert not workspace.result.exists()
    (small_disk / "somebody-else").unlink()
    convert(job, workspace, NullSink(), NeverCancel(), settings)
    assert (workspace.result / "model.safetensors").is_file()
    assert [path.name for path in small_disk.iterdir()] == ["out"]
