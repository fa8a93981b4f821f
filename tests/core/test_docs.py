# SPDX-License-Identifier: Apache-2.0
"""The documents mention everything a user can set: a new field, choice or command is not done without."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from app.cli.main import cli
from core.arch import ARCHITECTURES
from core.further.spec import Measurements
from core.heal.spec import Healing
from core.presets import PRESETS
from core.settings import Settings
from core.spec import Calibration, Evaluation, JobSpec, Recipe
from core.stages import STAGES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def documents() -> str:
    """README.md and everything in docs/."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    assert len(text) > 1000
    return text


def mentions(documents: str, name: str) -> bool:
    """Whether `name` stands in the text as a word of its own, not as part of a longer name."""
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", documents) is not None


def commands(app: typer.Typer, above: str = "") -> Iterator[str]:
    """The full name of every command, "jobs list" for one of a group."""
    for info in app.registered_commands:
        assert info.callback is not None
        name = info.name or info.callback.__name__
        yield f"{above}{name}"
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance, f"{above}{group.name} ")


PARTS = (JobSpec, Recipe, Calibration, Evaluation, Healing, Measurements)
FIELDS = sorted({name for model in PARTS for name in model.model_fields})
CHOICES = [(stage, choice) for stage, known in STAGES.items() for choice in known.ready]


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_of_a_job_is_documented(field: str, documents: str) -> None:
    assert mentions(documents, field) or mentions(documents, "--" + field.replace("_", "-"))


@pytest.mark.parametrize("kind", [kind for family in ARCHITECTURES for kind in family.model_types])
def test_every_model_type_is_documented(kind: str, documents: str) -> None:
    assert f"`{kind}`" in documents


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_documented(preset: str, documents: str) -> None:
    assert mentions(documents, preset)


@pytest.mark.parametrize(("stage", "choice"), CHOICES)
def test_every_choice_of_a_stage_is_documented(stage: str, choice: str, documents: str) -> None:
    """On a line that speaks of it as code: a bare word such as "high" would be found anywhere."""
    assert f"`{choice}`" in documents


@pytest.mark.parametrize("command", list(commands(cli)))
def test_every_command_is_documented(command: str, documents: str) -> None:
    assert re.search(rf"`(mla-workbench )?{command}[ `]", documents)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name: str, documents: str) -> None:
    assert mentions(documents, f"MLA_{name.upper()}")
