# SPDX-License-Identifier: Apache-2.0
"""The checkpoint writer: what safetensors would write, in any order, with any interruption."""

import json
import math
import random
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.weights.index import TensorInfo
from core.weights.manifest import Manifest
from core.weights.writer import ShardWriter, Unit

DTYPES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
# odd counts before wider dtypes: alignment does not come by itself
SHAPES: dict[str, tuple[str, tuple[int, ...]]] = {
    "embed": ("bfloat16", (7, 5)),
    "layer.0.weight": ("float16", (3, 3)),
    "layer.0.inv_freq": ("float32", (5,)),
    "layer.1.weight": ("float64", (2, 3)),
    "layer.1.empty": ("float32", (0, 4)),
    "scalar": ("float32", ()),
    "norm": ("bfloat16", (1,)),
}


def tensors(shapes: dict[str, tuple[str, tuple[int, ...]]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(shape, generator=generator).to(getattr(torch, dtype))
        for name, (dtype, shape) in shapes.items()
    }


def open_writer(folder: Path, content: dict[str, Tensor], shard_bytes: int = 10**9) -> ShardWriter:
    """One unit per tensor."""
    folder.mkdir(exist_ok=True)
    units = [
        Unit(name, (TensorInfo(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), Path()),))
        for name, tensor in content.items()
    ]
    return ShardWriter(folder, units, shard_bytes, Manifest(folder / "manifest.json", "print"))


def write(writer: ShardWriter, content: dict[str, Tensor], names: Iterable[str]) -> None:
    for name in names:
        writer.write(name, {name: content[name]})


def header_of(file: Path) -> tuple[int, dict[str, Any]]:
    """(length of everything before the data, entries)."""
    raw = file.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return 8 + length, json.loads(raw[8 : 8 + length])


def test_safetensors_reads_back_what_was_written(tmp_path: Path) -> None:
    content = tensors(SHAPES)
    writer = open_writer(tmp_path / "ours", content)
    write(writer, content, reversed(content))  # the order of writing does not matter
    (file,) = writer.finish()
    save_file(content, tmp_path / "theirs.safetensors")
    ours, theirs = load_file(file), load_file(tmp_path / "theirs.safetensors")
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype
        assert ours[name].shape == tensor.shape
        assert ours[name].equal(tensor)


def test_every_tensor_starts_aligned_to_its_dtype(tmp_path: Path) -> None:
    """Readers map the file and view the bytes; a float64 at an odd place is slow or a crash."""
    content = tensors(SHAPES)
    writer = open_writer(tmp_path, content)
    write(writer, content, content)
    start, entries = header_of(writer.finish()[0])
    assert start % 8 == 0
    assert entries.pop("__metadata__") == {"format": "pt"}
    for name, entry in entries.items():
        size = DTYPES[SHAPES[name][0]]
        assert (start + entry["data_offsets"][0]) % size == 0
        assert entry["data_offsets"][1] - entry["data_offsets"][0] == size * math.prod(SHAPES[name][1])


@given(order=st.randoms(use_true_random=False), stop=st.integers(0, len(SHAPES)), shard=st.integers(1, 200))
@settings(max_examples=25, deadline=None)  # each writes and syncs real files
def test_an_interrupted_checkpoint_is_finished_to_the_same_bytes(
    order: random.Random, stop: int, shard: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = tensors(SHAPES)
    folder = tmp_path_factory.mktemp("writer")
    straight = open_writer(folder / "straight", content, shard)
    write(straight, content, content)
    wanted = {file.name: file.read_bytes() for file in straight.finish()}

    names = list(content)
    order.shuffle(names)
    write(open_writer(folder / "cut", content, shard), content, names[:stop])
    manifest = Manifest(folder / "cut" / "manifest.json", "print")
    again = open_writer(folder / "cut", content, shard)
    left = [name for name in names if name not in manifest]
    assert len(left) == len(names) - stop
    write(again, content, left)
    assert {file.name: file.read_bytes() for file in again.finish()} == wanted


def test_no_shard_is_larger_than_asked(tmp_path: Path) -> None:
    content = {f"t{i}": torch.full((10 + i,), float(i)) for i in range(12)}
    writer = open_writer(tmp_path, content, shard_bytes=150)
    write(writer, content, content)
    files = writer.finish()
    assert len(files) > 3
    for file in files:
        start, _ = header_of(file)
        assert file.stat().st_size - start <= 150
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(4 * len(tensor) for tensor in content.values())
    for name, tensor in content.items():
        assert load_file(tmp_path / index["weight_map"][name])[name].equal(tensor)


def test_a_tensor_larger_than_a_shard_gets_a_shard_of_its_own(tmp_path: Path) -> None:
    content = {"small": torch.ones(2), "large": torch.ones(100), "last": torch.ones(2)}
    writer = open_writer(tmp_path, content, shard_bytes=50)
    write(writer, content, content)
    assert [sorted(load_file(file)) for file in writer.finish()] == [["small"], ["large"], ["last"]]


def test_weights_are_cast_to_the_planned_dtype(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, {"w": torch.zeros(3, dtype=torch.bfloat16)})
    writer.write("w", {"w": torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)})
    assert load_file(writer.finish()[0])["w"].equal(torch.tensor([1, 2, 3], dtype=torch.bfloat16))


def test_a_wrong_shape_is_not_written(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, {"w": torch.zeros(3)})
    with pytest.raises(ValueError, match="planned shape"):
        writer.write("w", {"w": torch.zeros(4)})


def test_a_shard_whose_header_was_never_written_is_laid_out_again(tmp_path: Path) -> None:
    """Killed after the space was claimed and before the header reached the disk: full size, all zeros."""
    content = tensors(SHAPES)
    open_writer(tmp_path, content)
    (partial,) = tmp_path.glob("*.safetensors.partial")
    partial.write_bytes(bytes(partial.stat().st_size))
    writer = open_writer(tmp_path, content)
    write(writer, content, content)
    assert load_file(writer.finish()[0]).keys() == content.keys()


def test_entries_of_another_conversion_are_ignored(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "manifest.json", "one")
    manifest.enter("layer", "0" * 64, {"rank": 3})
    assert Manifest(tmp_path / "manifest.json", "one").note("layer") == {"rank": 3}
    assert "layer" not in Manifest(tmp_path / "manifest.json", "other")
