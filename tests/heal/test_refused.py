# SPDX-License-Identifier: Apache-2.0
"""What cannot be healed is refused before a weight is read, with the fix."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from heal_runs import heal_spec

from core.errors import ModelError, OutputError, SpecError, TextError, WorkbenchError
from core.heal.preflight import Ready, prepare_healing
from core.settings import Settings
from core.spec import JobSpec, parse_spec
from core.workspace import Workspace
from tests.conftest import make_tiny_llama

Refuse = Callable[[JobSpec], WorkbenchError]


@pytest.fixture
def refused(tmp_path: Path) -> Refuse:
    """The error of a preparation that must fail, and nothing is left behind."""

    def ask(spec: JobSpec) -> WorkbenchError:
        workspace = Workspace(tmp_path / "out.partial", tmp_path / "out")
        with pytest.raises(WorkbenchError) as caught:
            prepare_healing(spec, workspace, Settings(data_dir=tmp_path / "home"))
        assert not workspace.work.exists()
        assert not (tmp_path / "home").exists()
        assert caught.value.hint
        return caught.value

    return ask


def test_a_folder_that_is_no_conversion(refused: Refuse, base: Path, words: Path, tmp_path: Path) -> None:
    error = refused(heal_spec(base, base, words))
    assert isinstance(error, ModelError)
    assert "is no converted model" in error.message
    assert "there is no folder" in refused(heal_spec(tmp_path / "nowhere", base, words)).message


def test_a_conversion_without_its_record(
    refused: Refuse, converted: Path, base: Path, words: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(converted, tmp_path / "copy")
    (copy / "conversion.json").unlink()
    assert "has no conversion.json" in refused(heal_spec(copy, base, words)).message


def test_a_teacher_with_another_vocabulary(
    refused: Refuse, converted: Path, base: Path, words: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(base, tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    names = tokenizer["model"]["vocab"]
    first, second = list(names)[5:7]
    names[first], names[second] = names[second], names[first]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    error = refused(heal_spec(converted, other, words))
    assert "another vocabulary" in error.message
    assert error.field == "model"


def test_a_teacher_that_is_converted_itself(refused: Refuse, converted: Path, words: Path) -> None:
    assert "converted model itself" in refused(heal_spec(converted, converted, words)).message


def test_a_teacher_of_another_shape_where_layers_are_compared(
    refused: Refuse, converted: Path, words: Path, tmp_path: Path
) -> None:
    """A larger teacher may teach its predictions, not its layers."""
    larger = make_tiny_llama(tmp_path / "larger", num_hidden_layers=3)
    error = refused(heal_spec(converted, larger, words, hidden_loss=1.0))
    assert "teacher with the same layers" in error.message
    ready = prepare_healing(
        heal_spec(converted, larger, words),
        Workspace(tmp_path / "fine.partial", tmp_path / "fine"),
        Settings(data_dir=tmp_path / "home"),
    )
    assert isinstance(ready, Ready)


def test_a_text_that_is_too_short(refused: Refuse, converted: Path, base: Path, words: Path) -> None:
    error = refused(heal_spec(converted, base, words, tokens=100_000))
    assert isinstance(error, TextError)
    assert "are asked of it" in error.message


def test_fewer_tokens_than_one_step() -> None:
    with pytest.raises(SpecError, match="less than one step of 1024"):
        parse_spec({"kind": "heal", "heal": {"source": "x", "tokens": 100}})


@pytest.mark.parametrize("said", [{"kind": "heal"}, {"heal": {"source": "x"}}])
def test_kind_and_field_belong_together(said: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="belong together"):
        parse_spec(said)


def test_too_little_memory(
    refused: Refuse, converted: Path, base: Path, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = psutil.virtual_memory()._replace(available=1_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    error = refused(heal_spec(converted, base, words))
    assert "of memory" in error.message
    assert "checkpoint_activations" in error.hint


def test_too_little_disk(
    refused: Refuse, converted: Path, base: Path, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage(words)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    error = refused(heal_spec(converted, base, words))
    assert isinstance(error, OutputError)
    assert "1 MB free" in error.message


def test_a_result_that_exists(converted: Path, base: Path, words: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        prepare_healing(
            heal_spec(converted, base, words),
            Workspace(tmp_path / "out.partial", tmp_path / "out"),
            Settings(data_dir=tmp_path / "home"),
        )
