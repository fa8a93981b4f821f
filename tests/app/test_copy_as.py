# SPDX-License-Identifier: Apache-2.0
"""What is copied is the same job, whatever was chosen."""

import json
import shlex

from hypothesis import given
from typer.main import get_command

from app.cli.main import cli
from app.cli.request import convert_spec
from app.services.copy_as import as_command, as_curl, as_recipe, as_yaml
from app.services.recipes import read_recipe
from app.services.requests import read_request
from core.presets import PRESETS
from core.spec import Calibration, JobSpec
from tests.app.specs import specs


@given(spec=specs())
def test_a_copied_curl_queues_the_same_job(spec: JobSpec) -> None:
    words = shlex.split(as_curl(spec, "http://127.0.0.1:7860").replace("\\\n", ""))
    # what the route does with the body
    received = JobSpec.model_validate(json.loads(words[-1])).model_dump(exclude_unset=True)
    assert read_request(received) == spec


@given(spec=specs())
def test_a_copied_command_runs_the_same_job(spec: JobSpec) -> None:
    copied = as_command(spec)
    if copied.endswith("RECIPE"):
        # what has no option: a recipe on standard input
        first, _, recipe = copied.partition("\n")
        assert first == "mla-workbench convert --recipe - --out converted <<'RECIPE'"
        assert read_recipe(recipe.removesuffix("RECIPE")) == spec
        return
    command = get_command(cli).commands["convert"]  # type: ignore[attr-defined]
    said = dict(command.make_context("convert", shlex.split(copied)[2:]).params)
    del said["out"], said["json"], said["recipe"]
    said["calibration"] = {"text": said["calibration"], "tokens": said.pop("tokens")} | {
        "context": said.pop("context")
    }
    assert convert_spec(**said) == spec


@given(spec=specs())
def test_a_copied_recipe_is_the_same_job(spec: JobSpec) -> None:
    assert read_recipe(as_recipe(spec)) == read_recipe(as_yaml(spec)) == spec


def test_a_copied_profile_is_the_same_profile() -> None:
    """Of a profile, model, revision, device and the text count."""
    spec = JobSpec(
        kind="profile", model="--odd", device="cpu", calibration=Calibration(tokens=64, text="a b")
    )
    words = shlex.split(as_command(spec))
    command = get_command(cli).commands["profile"]  # type: ignore[attr-defined]
    said = command.make_context("profile", words[2:]).params
    assert words[:2] == ["mla-workbench", "profile"]
    assert (said["model"], said["device"], said["calibration"], said["tokens"]) == ("--odd", "cpu", "a b", 64)
    assert (said["context"], said["revision"]) == (512, None)


def test_the_budget_of_a_preset_does_not_replace_the_default() -> None:
    """0.3125 is JobSpec's own default: left out, the preset's 0.1875 would take its place."""
    spec = JobSpec(preset="mha2mla-81", recipe=PRESETS["mha2mla-81"].recipe, keep=0.3125)
    body = json.loads(shlex.split(as_curl(spec, "http://x").replace("\\\n", ""))[-1])
    assert read_request(body).keep == 0.3125
