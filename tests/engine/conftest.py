# SPDX-License-Identifier: Apache-2.0
"""Run conversions of tiny checkpoints in this process and look at the folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from list_sink import ListSink

from core.engine import convert
from core.events import Cancel, NeverCancel
from core.presets import spec_from_preset
from core.settings import Settings
from core.spec import JobSpec
from core.workspace import Workspace

Run = Callable[..., tuple[Path, ListSink]]


@pytest.fixture(autouse=True)
def _verifies_warm(request: pytest.FixtureRequest) -> None:
    """Every conversion is verified; test_verify.py shows it as the product starts it as well."""
    if request.path.name != "test_verify.py":
        request.getfixturevalue("warm_verification")


@pytest.fixture(scope="session")
def tiny_spec(sample_text: Path) -> Callable[..., JobSpec]:
    """A spec of a tiny model with small texts; evaluation is off unless asked for."""

    def make(model: Path, **fields: Any) -> JobSpec:
        calibration = {"text": str(sample_text), "tokens": 256, "context": 64}
        defaults = {"model": str(model), "calibration": calibration}
        preset = fields.pop("preset", "mha2mla")
        spec = spec_from_preset(preset, **(defaults | fields))
        return spec if "evaluation" in fields else spec.model_copy(update={"evaluation": None})

    return make


@pytest.fixture
def convert_to(tmp_path: Path) -> Run:
    """convert_to(spec) -> (result folder, sink)."""

    def run(spec: JobSpec, name: str = "out", cancel: Cancel | None = None) -> tuple[Path, ListSink]:
        sink = ListSink()
        workspace = Workspace(work=tmp_path / f"{name}.partial", result=tmp_path / name)
        convert(spec, workspace, sink, cancel or NeverCancel(), Settings(data_dir=tmp_path / "home"))
        return workspace.result, sink

    return run
