# SPDX-License-Identifier: Apache-2.0
"""The healed folder: the converted one, byte for byte, with other numbers where weights have learned."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from core.calibrate.layer_statistics import sync
from core.errors import ModelError
from core.evaluate import load_model
from core.export.probe import PROBE_TOKENS
from core.modeling import export_source
from core.weights.index import TensorInfo, read_index
from core.weights.space import disk_error, is_disk_error
from core.weights.tensors import TORCH_DTYPES


def check_names(source: Path, names: set[str]) -> None:
    """Raise ModelError unless every one of `names` is a tensor of the checkpoint."""
    missing = sorted(names - read_index(source).keys())
    if missing:
        raise ModelError(
            f"{len(missing)} weights are stored under other names than the model has, first {missing[0]}",
            hint="choose trainable attention",
            field="heal.trainable",
        )


def write_healed(source: Path, folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Copy `source` to `folder` and write `weights` at their places, in their stored dtype.

    Headers, order and shards stay as they are. The model's file is today's, as in any new export: what the
    folder must give is computed by it. Raises OutputError when the disk is full.
    """
    try:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
        shutil.copy(export_source(), folder)
        for name, info in read_index(folder).items():
            if name in weights:
                _write(info, weights[name])
        for file in folder.glob("*.safetensors"):
            sync(file)
    except OSError as error:
        raise (disk_error(error) if is_disk_error(error) else error) from error


def expected_logits(source: Path, weights: Mapping[str, Tensor], tokens: Tensor, path: Path) -> None:
    """What the healed folder must give for `tokens` (n,), computed in memory from the converted one."""
    model = load_model(source, dtype=None, device="cpu")
    own = model.state_dict()
    for name, weight in weights.items():
        own[name].copy_(weight)
    probe = tokens[None, :PROBE_TOKENS].long()
    with torch.no_grad():
        logits = model(probe).logits.float()
    path.write_bytes(save({"tokens": probe.contiguous(), "logits": logits.contiguous()}))


def _write(info: TensorInfo, weight: Tensor) -> None:
    if tuple(weight.shape) != info.shape:
        raise ValueError(f"{info.name}: stored shape {info.shape}, got {tuple(weight.shape)}")
    data = weight.detach().cpu().to(TORCH_DTYPES[info.dtype]).contiguous().view(-1)
    with info.file.open("r+b") as handle:
        header = _header(info.file)
        start = header[info.name]["data_offsets"][0]
        handle.seek(8 + header["__bytes__"] + start)
        handle.write(data.view(torch.uint8).numpy().tobytes())


def _header(file: Path) -> dict[str, Any]:
    """The safetensors header, and how long it is."""
    with file.open("rb") as handle:
        size = int.from_bytes(handle.read(8), "little")
        found: dict[str, Any] = json.loads(handle.read(size))
    return found | {"__bytes__": size}
