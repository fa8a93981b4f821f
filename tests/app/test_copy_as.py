# SPDX-License-Identifier: Apache-2.0
"""What is copied is the same job, whatever was chosen."""

import json
import shlex

from hypothesis import given
from typer.main import get_command

from app.cli.main import cli
from app.cli.request import convert_spec
from app.services.copy_as import as_command, as_curl
from app.services.requests import read_request
from core.presets import PRESETS
from core.spec import JobSpec
from tests.app.specs import specs


@given(spec=specs())
def test_a_copied_curl_queues_the_same_job(spec: JobSpec) -> None:
    words = shlex.split(as_curl(spec, "http://127.0.0.1:7860").replace("\\\n", ""))
    # what the route does with the body
    received = JobSpec.model_validate(json.loads(words[-1])).model_dump(exclude_unset=True)
    assert read_request(received) == spec


@given(spec=specs())
def test_a_copied_command_runs_the_same_job(spec: JobSpec) -> None:
    command = get_command(cli).commands["convert"]  # type: ignore[attr-defined]
    said = dict(command.make_context("convert", shlex.split(as_command(spec))[2:]).params)
    del said["out"], said["json"]
    said["calibration"] = {"text": said["calibration"], "tokens": said.pop("tokens")} | {
        "context": said.pop("context")
    }
    assert convert_spec(**said) == spec


def test_the_budget_of_a_preset_does_not_replace_the_default() -> None:
    """0.3125 is JobSpec's own default: left out, the preset's 0.1875 would take its place."""
    spec = JobSpec(preset="mha2mla-81", recipe=PRESETS["mha2mla-81"].recipe, keep=0.3125)
    body = json.loads(shlex.split(as_curl(spec, "http://x").replace("\\\n", ""))[-1])
    assert read_request(body).keep == 0.3125
