# SPDX-License-Identifier: Apache-2.0
"""Models that are missing, damaged, dangerous or unknown."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from core.errors import WorkbenchError
from core.preflight import prepare
from core.settings import Settings
from core.spec import JobSpec
from core.workspace import Workspace

Refused = Callable[..., WorkbenchError]


def change_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_missing_folder(refused: Refused, tmp_path: Path) -> None:
    error = refused(model=str(tmp_path / "nowhere"))
    assert "there is no folder" in error.message
    assert error.field == "model"


def test_a_folder_without_config(refused: Refused, broken: Path) -> None:
    (broken / "config.json").unlink()
    assert "has no config.json" in refused(model=str(broken)).message


def test_a_folder_without_weights(refused: Refused, broken: Path) -> None:
    (broken / "model.safetensors").unlink()
    error = refused(model=str(broken))
    assert "no weights" in error.message
    assert "model.safetensors" in error.hint


def test_a_folder_without_tokenizer(refused: Refused, broken: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (broken / name).unlink()
    assert "tokenizer" in refused(model=str(broken)).message


@pytest.mark.parametrize(
    "text", ["{}", "{", "[]", "3", "null", '{"model": {}}', '{"added_tokens": [], "model": {"type": "BPE"}}']
)
def test_a_damaged_tokenizer(text: str, refused: Refused, broken: Path) -> None:
    (broken / "tokenizer.json").write_text(text)
    assert "no tokenizer that loads" in refused(model=str(broken)).message


def test_a_model_larger_than_the_memory(refused: Refused, broken: Path) -> None:
    """Its vocabulary is a hole in a file, twice as large as this machine's memory."""
    rows = 2 * psutil.virtual_memory().total // (64 * 4)
    file = broken / "model.safetensors"
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__")
    header["model.embed_tokens.weight"]["shape"] = [rows, 64]
    position = 0
    for entry in header.values():  # safetensors allows no gaps
        entry["data_offsets"] = [position, position + 4 * math.prod(entry["shape"])]
        position = entry["data_offsets"][1]
    text = json.dumps(header).encode()
    with file.open("wb") as handle:
        handle.write(len(text).to_bytes(8, "little") + text)
        handle.truncate(8 + len(text) + position)
    change_config(broken, vocab_size=rows)
    error = refused(model=str(broken))
    assert f"this machine has {psutil.virtual_memory().total / 1e9:,.1f} GB" in error.message
    assert "memory" in error.hint


@pytest.mark.parametrize(
    "damage", ["truncated", "truncated in the header", "empty", "garbage header", "html"]
)
def test_a_corrupt_weight_file(damage: str, refused: Refused, broken: Path) -> None:
    file = broken / "model.safetensors"
    data = file.read_bytes()
    contents = {
        "truncated": data[:-100],
        "truncated in the header": data[:50],
        "empty": b"",
        "garbage header": data[:8] + b"\xff" * 200 + data[208:],
        "html": b"<!DOCTYPE html><html>404 Not Found</html>",
    }
    file.write_bytes(contents[damage])
    error = refused(model=str(broken))
    assert "model.safetensors is not a readable safetensors file" in error.message
    assert "fetch the file again" in error.hint


def test_a_pickle_is_refused_and_not_opened(refused: Refused, broken: Path, tmp_path: Path) -> None:
    """The pickle would create a file when it is loaded."""
    trap = tmp_path / "trap"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (trap,)

    torch.save({"model.embed_tokens.weight": Bomb()}, broken / "pytorch_model.bin")
    (broken / "model.safetensors").unlink()
    error = refused(model=str(broken))
    assert "pickle" in error.message
    assert "safetensors" in error.hint
    assert not trap.exists()


def test_a_missing_shard(refused: Refused, broken: Path) -> None:
    (broken / "model.safetensors").rename(broken / "model-00001-of-00002.safetensors")
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (broken / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    error = refused(model=str(broken))
    assert "1 of 2 weight files are missing, first model-00002-of-00002.safetensors" in error.message
    assert "download" in error.hint


def test_an_unsupported_architecture(refused: Refused, broken: Path) -> None:
    change_config(broken, model_type="bloom")
    error = refused(model=str(broken))
    assert "'bloom' cannot be converted" in error.message
    assert "llama" in error.hint


def test_a_lost_tensor_outside_the_attention(refused: Refused, broken: Path) -> None:
    name = "model.layers.2.mlp.up_proj.weight"
    change_weights(broken, lambda tensors: tensors.pop(name))
    assert f"{name} is missing in the files" in refused(model=str(broken)).message


def test_a_tensor_that_the_model_does_not_know(refused: Refused, broken: Path) -> None:
    """A norm on the queries changes the arithmetic: leaving it out silently would give another model."""
    name = "model.layers.0.self_attn.q_norm.weight"
    change_weights(broken, lambda tensors: tensors.update({name: torch.ones(16)}))
    error = refused(model=str(broken))
    assert name in error.message
    assert "no such tensor" in error.message


def test_biases_that_the_config_promises(refused: Refused, broken: Path) -> None:
    change_config(broken, attention_bias=True)
    assert "_proj.bias is missing in the files" in refused(model=str(broken)).message


def test_a_vocabulary_of_another_size(refused: Refused, broken: Path) -> None:
    change_config(broken, vocab_size=999)
    assert "model.embed_tokens.weight is (258, 64)" in refused(model=str(broken)).message


@pytest.mark.parametrize("broken_rope", [{"rope_type": "yarn"}, {"rope_type": "llama3", "factor": 8.0}])
def test_a_rope_scaling_without_its_numbers(
    broken_rope: dict[str, Any], refused: Refused, broken: Path
) -> None:
    path = broken / "config.json"
    config = json.loads(path.read_text())
    config.pop("rope_parameters", None)
    path.write_text(json.dumps(config | {"rope_scaling": broken_rope}))
    assert "config.json" in refused(model=str(broken)).message


@pytest.mark.parametrize("age", ["new", "with the frequencies Llama 2 was saved with"])
def test_the_undamaged_copy_is_accepted(
    age: str, spec: Callable[..., JobSpec], broken: Path, out: Path, tmp_path: Path
) -> None:
    """Otherwise every refusal above could have another reason."""
    if age != "new":
        names = [f"model.layers.{i}.self_attn.rotary_emb.inv_freq" for i in range(4)]
        change_weights(broken, lambda tensors: tensors.update({name: torch.ones(8) for name in names}))
    workspace = Workspace(work=out.with_name("out.partial"), result=out)
    ready = prepare(spec(model=str(broken)), workspace, Settings(data_dir=tmp_path / "home"))
    assert ready.plan.problems == ()
