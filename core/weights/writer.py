# SPDX-License-Identifier: Apache-2.0
"""Write a checkpoint tensor by tensor, so that memory holds one layer and a crash loses one layer.

All names, shapes and dtypes are known from the plan, so every shard's header and size are fixed before
the first weight is computed. A unit (one layer, or one tensor outside the layers) is written at its place,
synced, and entered in the manifest; a later run writes what the manifest lacks. The bytes therefore do not
depend on how often the run was interrupted.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from core.kv_budget import DTYPE_BYTES
from core.weights.index import TensorInfo
from core.weights.manifest import Manifest
from core.weights.space import claim, disk_error

_SAFETENSORS_NAME = {
    "float64": "F64",
    "float32": "F32",
    "bfloat16": "BF16",
    "float16": "F16",
    "int32": "I32",
    "int8": "I8",
}
# of what a checkpoint can hold; a cache holds floats only
_BYTES = DTYPE_BYTES | {"int32": 4, "int8": 1}
_PARTIAL = ".partial"


@dataclass(frozen=True)
class Unit:
    """Tensors that are written together and resumed together."""

    name: str
    tensors: tuple[TensorInfo, ...]


@dataclass(frozen=True)
class _Place:
    file: Path
    offset: int
    info: TensorInfo


class ShardWriter:
    """A safetensors checkpoint in `folder`, filled in any order and finished by `finish`."""

    def __init__(self, folder: Path, units: Sequence[Unit], shard_bytes: int, manifest: Manifest) -> None:
        self._folder = folder
        self._manifest = manifest
        self._places: dict[str, _Place] = {}
        self._shards = _pack([info for unit in units for info in unit.tensors], shard_bytes)
        self._units = {unit.name: unit for unit in units}
        for number, tensors in enumerate(self._shards, start=1):
            self._prepare(self._file(number), tensors)
        for name in self._units:
            # what a crash of the machine or a failing disk left is not what was written
            if name in manifest and self._digest_on_disk(name) != manifest.sha256(name):
                manifest.drop(name)

    def write(
        self, unit: str, tensors: Mapping[str, Tensor], note: Mapping[str, object] | None = None
    ) -> None:
        """Write every tensor of `unit` (full names), sync, and enter it in the manifest with `note`.

        Raises OutputError when the disk is full.
        """
        digest = hashlib.sha256()
        files: set[Path] = set()
        for info in self._units[unit].tensors:
            place = self._places[info.name]
            data = _bytes(tensors[info.name], info)
            digest.update(data)
            _write_at(place.file, place.offset, data)
            files.add(place.file)
        for file in files:
            _sync(file)
        self._manifest.enter(unit, digest.hexdigest(), note or {})

    def finish(self) -> list[Path]:
        """Rename the shards to their final names and write the index; returns the weight files."""
        files = [self._rename(self._file(number)) for number in range(1, len(self._shards) + 1)]
        if len(files) > 1:
            weight_map = {
                info.name: file.name
                for file, shard in zip(files, self._shards, strict=True)
                for info in shard
            }
            total = sum(_size(info) for shard in self._shards for info in shard)
            index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
            path = self._folder / "model.safetensors.index.json"
            path.write_text(json.dumps(index, indent=2) + "\n")
            _sync(path)
        return files

    def _file(self, number: int) -> Path:
        count = len(self._shards)
        name = "model.safetensors" if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"
        return self._folder / name

    def _prepare(self, file: Path, tensors: list[TensorInfo]) -> None:
        """Lay out one shard; create it with header and full size unless an earlier run did."""
        header, offsets = _layout(tensors)
        total = len(header) + sum(_size(info) for info in tensors)
        partial = file.with_name(file.name + _PARTIAL)
        if file.is_file():  # an earlier run finished writing and stopped later
            file.rename(partial)
        for info in tensors:
            self._places[info.name] = _Place(partial, len(header) + offsets[info.name], info)
        if _starts_with(partial, header) and partial.stat().st_size == total:
            return
        try:
            with partial.open("wb") as handle:
                # claims the space now: a full disk is found before hours of work, not after
                claim(handle.fileno(), total)
                handle.write(header)
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise disk_error(error, total) from error

    def _digest_on_disk(self, unit: str) -> str:
        """sha256 of the unit's bytes, as `write` takes it."""
        digest = hashlib.sha256()
        for info in self._units[unit].tensors:
            place = self._places[info.name]
            with place.file.open("rb") as handle:
                handle.seek(place.offset)
                digest.update(handle.read(_size(info)))
        return digest.hexdigest()

    def _rename(self, file: Path) -> Path:
        partial = file.with_name(file.name + _PARTIAL)
        if partial.is_file():
            partial.rename(file)
        return file


def _pack(tensors: Sequence[TensorInfo], shard_bytes: int) -> list[list[TensorInfo]]:
    """Tensors in order, a new shard whenever the next one would pass `shard_bytes`."""
    shards: list[list[TensorInfo]] = [[]]
    used = 0
    for info in tensors:
        if shards[-1] and used + _size(info) > shard_bytes:
            shards.append([])
            used = 0
        shards[-1].append(info)
        used += _size(info)
    return shards


def _layout(tensors: Sequence[TensorInfo]) -> tuple[bytes, dict[str, int]]:
    """The safetensors header (length, JSON padded to 8 bytes) and each tensor's offset behind it."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offsets: dict[str, int] = {}
    position = 0
    # widest numbers first, as the safetensors library does: every tensor then starts aligned to its dtype
    for info in sorted(tensors, key=lambda info: -_BYTES[info.dtype]):
        end = position + _size(info)
        entries[info.name] = {
            "dtype": _SAFETENSORS_NAME[info.dtype],
            "shape": list(info.shape),
            "data_offsets": [position, end],
        }
        offsets[info.name] = position
        position = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, offsets


def _starts_with(file: Path, header: bytes) -> bool:
    """Whether an earlier run came as far as the header, which it writes after claiming the space."""
    if not file.is_file():
        return False
    with file.open("rb") as handle:
        return handle.read(len(header)) == header


def _size(info: TensorInfo) -> int:
    return info.numbers * _BYTES[info.dtype]


def _bytes(tensor: Tensor, info: TensorInfo) -> bytes:
    if tuple(tensor.shape) != info.shape:
        raise ValueError(f"{info.name}: planned shape {info.shape}, got {tuple(tensor.shape)}")
    dtype = getattr(torch, info.dtype)
    flat = tensor.detach().cpu().to(dtype).contiguous().view(-1)
    return flat.view(torch.uint8).numpy().tobytes()


def _write_at(file: Path, offset: int, data: bytes) -> None:
    try:
        with file.open("r+b") as handle:
            handle.seek(offset)
            handle.write(data)
    except OSError as error:
        raise disk_error(error, len(data)) from error


def _sync(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
