# SPDX-License-Identifier: Apache-2.0
"""A tiny random model, its conversion, and a text."""

from pathlib import Path

import pytest

from core.engine import convert
from core.events import NeverCancel, NullSink
from core.presets import spec_from_preset
from core.settings import Settings
from core.workspace import Workspace
from tests.conftest import make_tiny_llama
from tests.warm_verify import forked_verification


@pytest.fixture(autouse=True)
def _verifies_warm(warm_verification: None) -> None:
    """Every healing ends with the real check of the folder, without the start of its process."""


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 7000 bytes, so as many tokens; no two windows are equal."""
    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_text(" ".join(f"word {number} of {number * number % 977}" for number in range(450)))
    return path


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The original: two layers."""
    return make_tiny_llama(tmp_path_factory.mktemp("original") / "base", num_hidden_layers=2)


def converted_from(base: Path, folder: Path, words: Path, preset: str, **fields: object) -> Path:
    """A conversion of `base` by `preset` in `folder`."""
    calibration = {"text": str(words), "tokens": 512, "context": 64}
    spec = spec_from_preset(preset, model=str(base), calibration=calibration, **fields)
    spec = spec.model_copy(update={"evaluation": None})
    workspace = Workspace(work=folder / "out.partial", result=folder / "out")
    with pytest.MonkeyPatch.context() as patch, forked_verification(patch):
        convert(spec, workspace, NullSink(), NeverCancel(), Settings(data_dir=folder / "home"))
    return workspace.result


@pytest.fixture(scope="session")
def converted(base: Path, words: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It lost much: a quarter of the cache is left."""
    return converted_from(base, tmp_path_factory.mktemp("converted"), words, "mha2mla", keep=0.25)
