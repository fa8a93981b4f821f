# SPDX-License-Identifier: Apache-2.0
"""The same refusals through the real command line: exit code 1, one JSON object, nothing left behind."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., tuple[int, dict[str, Any]]]

# options -> (part of the error, part of the fix)
OPTIONS = {
    ("--keep", "2"): ("keep must be above 0 and at most 1", "0.3125 keeps"),
    ("--keep", "0"): ("keep must be above 0 and at most 1", "0.3125 keeps"),
    ("--rope-dim", "3", "--kv-rank", "4"): ("rope_dim must be even", "pairs"),
    ("--kv-rank", "0", "--rope-dim", "2"): ("kv_rank must be at least 1", "at least one number"),
    ("--dtype", "int4"): ("dtype", "dtype of the written weights"),
    ("--preset", "nobody"): ("there is no preset 'nobody'", "mha2mla"),
    ("--set", "factor_form=joint-qk"): ("'joint-qk' is not a known choice", "joint, split"),
}


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_wrong_options_are_refused_at_once(
    options: tuple[str, ...], tiny_checkpoint: Path, out: Path, convert_cli: Cli
) -> None:
    error, fix = OPTIONS[options]
    started = time.monotonic()
    code, found = convert_cli(tiny_checkpoint, out, *options)
    assert code == 1
    assert error in found["error"]
    assert fix in found["hint"]
    assert found["field"]
    assert not out.parent.exists()
    # no torch is imported to say so; that alone takes seconds, the rest is room for a busy machine
    assert time.monotonic() - started < 10


def damage_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def damage_truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def damage_architecture(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "bloom"}))


MODELS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "pickle": (damage_pickle, "pickle", "save_pretrained"),
    "truncated": (damage_truncate, "not a readable safetensors file", "fetch the file again"),
    "architecture": (damage_architecture, "'bloom' cannot be converted yet", "llama"),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_damaged_model(case: str, broken: Path, out: Path, convert_cli: Cli) -> None:
    damage, error, fix = MODELS[case]
    damage(broken)
    code, found = convert_cli(broken, out)
    assert (code, found["field"]) == (1, "model")
    assert error in found["error"]
    assert fix in found["hint"]
    assert not out.parent.exists()


def test_a_missing_model(tmp_path: Path, out: Path, convert_cli: Cli) -> None:
    code, found = convert_cli(tmp_path / "nowhere", out)
    assert code == 1
    assert "there is no folder" in found["error"]
    assert "demo" in found["hint"]
    assert not out.parent.exists()


def test_a_binary_text(tiny_checkpoint: Path, out: Path, tmp_path: Path, convert_cli: Cli) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    code, found = convert_cli(tiny_checkpoint, out, "--calibration", str(tmp_path / "picture.png"))
    assert code == 1
    assert "picture.png' is not UTF-8 text" in found["error"]
    assert found["hint"]
    assert not out.parent.exists()


def test_an_output_that_exists(tiny_checkpoint: Path, tmp_path: Path, convert_cli: Cli) -> None:
    code, found = convert_cli(tiny_checkpoint, tmp_path)
    assert (code, found["field"]) == (1, "out")
    assert "exists already" in found["error"]
    assert not tmp_path.with_name(tmp_path.name + ".partial").exists()


# the first is too small for the hidden states of a layer (256 tokens x 64 x 4 bytes), the second holds them
# but not the weight file
@pytest.mark.parametrize("file_limit", [20_000, 150_000])
def test_a_file_that_cannot_grow_is_reported_and_the_work_goes_on_later(
    file_limit: int, tiny_checkpoint: Path, out: Path, convert_cli: Cli
) -> None:
    """Works without root, unlike a small disk: quota and file size limits end in the same branch."""
    code, found = convert_cli(tiny_checkpoint, out, file_limit=file_limit)
    assert code == 1
    assert "writing failed: File too large" in found["error"]
    assert "free some space" in found["hint"]
    assert not out.exists()
    code, found = convert_cli(tiny_checkpoint, out)
    assert code == 0, found
    assert [path.name for path in out.parent.iterdir()] == ["out"]
