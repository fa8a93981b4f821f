# SPDX-License-Identifier: Apache-2.0
"""Bad input, refused in this process (fast) or through the real command line (true)."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import WorkbenchError
from core.preflight import prepare
from core.presets import spec_from_preset
from core.settings import Settings
from core.spec import JobSpec
from core.workspace import Workspace

CLI = Path(sys.executable).parent / "mla-workbench"


@pytest.fixture
def broken(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint, for a test to damage."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "broken")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where a result would go; neither it nor `out.partial` may exist after a refusal."""
    return tmp_path / "results" / "out"


def assert_nothing_left(out: Path) -> None:
    """Neither result nor work, nor the folder made to hold them."""
    assert not out.exists()
    assert not out.with_name(out.name + ".partial").exists()
    assert not out.parent.exists()


@pytest.fixture
def spec(sample_text: Path, tiny_checkpoint: Path) -> Callable[..., JobSpec]:
    """A good job; fields given are laid over it."""

    def make(**fields: Any) -> JobSpec:
        text = {"text": str(sample_text), "tokens": 256, "context": 64}
        evaluation = {"text": str(sample_text), "context": 64, "windows": 2}
        good = {"model": str(tiny_checkpoint), "calibration": text, "evaluation": evaluation}
        return spec_from_preset("mha2mla", **(good | fields))

    return make


@pytest.fixture
def refused(spec: Callable[..., JobSpec], out: Path, tmp_path: Path) -> Callable[..., WorkbenchError]:
    """refused(model=…) -> the error; asserts that it carries a fix and that nothing is left behind."""

    def run(**fields: Any) -> WorkbenchError:
        workspace = Workspace(work=out.with_name(out.name + ".partial"), result=out)
        settings = Settings(data_dir=tmp_path / "home")
        with pytest.raises(WorkbenchError) as caught:
            prepare(spec(**fields), workspace, settings)
        assert caught.value.hint
        assert_nothing_left(out)
        return caught.value

    return run


Cli = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def convert_cli(sample_text: Path, tmp_path: Path) -> Cli:
    """convert_cli(model, out, "--keep", "2", file_limit=…) -> (exit code, the JSON on stdout).

    `file_limit` is the size in bytes past which the system refuses to write a file (RLIMIT_FSIZE).
    """

    def run(model: Path | str, out: Path, *options: str, file_limit: int = 0) -> tuple[int, dict[str, Any]]:
        small = (
            "--calibration",
            str(sample_text),
            "--tokens",
            "256",
            "--context",
            "64",
            "--evaluation",
            "none",
        )
        # the cheap preset: no backward pass stands between the start and what is refused late
        preset = () if "--preset" in options else ("--preset", "mha2mla")

        def limit() -> None:
            if file_limit:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

        done = subprocess.run(
            [CLI, "convert", str(model), "--out", str(out), *small, *preset, *options, "--json"],
            env=os.environ | {"MLA_DATA_DIR": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
            preexec_fn=limit,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert "Traceback" not in done.stderr, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return done.returncode, found

    return run
