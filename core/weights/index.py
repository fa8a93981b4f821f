# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint contains, from safetensors headers alone: no weight is read, no torch needed."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open

from core.arch import Architecture
from core.errors import ModelError

# safetensors' own dtype names -> the names config.json uses
_DTYPES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
# frequencies that Llama 1 and 2 were published with; every model computes them from its config
_COMPUTED = ".rotary_emb.inv_freq"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class TensorInfo:
    """One tensor as the header describes it; `stored` is what the file calls it, when not `name`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    stored: str = ""

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)


def read_index(folder: Path) -> dict[str, TensorInfo]:
    """Every tensor of the checkpoint in `folder`, by name.

    Raises ModelError when there are no safetensors, a shard is missing, or a header does not parse.
    """
    tensors: dict[str, TensorInfo] = {}
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="np") as handle:
                for name in filter(is_weight, handle.keys()):
                    part = handle.get_slice(name)
                    dtype = dtype_name(part.get_dtype())
                    tensors[name] = TensorInfo(name, dtype, tuple(part.get_shape()), file)
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{file.name} is not a readable safetensors file: {error}",
                hint="the download may be incomplete: fetch the file again",
                field="model",
            ) from error
    return tensors


def current_names(tensors: Mapping[str, TensorInfo], family: Architecture | None) -> dict[str, TensorInfo]:
    """The tensors under the names that the model of `family` has today, buffers of old programs left out."""
    if family is None:
        return dict(tensors)
    named = ((family.current_name(stored), info) for stored, info in tensors.items())
    return {name: replace(info, name=name, stored=info.name) for name, info in named if name is not None}


def is_weight(name: str) -> bool:
    """Whether a tensor is part of the model, not a buffer that old checkpoints carry along."""
    return not name.endswith(_COMPUTED)


def dtype_name(safetensors_name: str) -> str:
    """ "BF16" -> "bfloat16"; names of dtypes a cache cannot have come back unchanged."""
    return _DTYPES.get(safetensors_name, safetensors_name)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that make up the checkpoint, in name order."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
            # a name with a path in it would read, and copy into the result, files outside the model's folder
            outside = [name for name in names if name in ("", ".", "..") or "/" in name or "\\" in name]
            missing = [name for name in names if not (folder / name).is_file()]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"{index.name} does not parse", hint="fetch the file again", field="model"
            ) from error
        if outside:
            raise ModelError(
                f"{index.name} names a weight file outside the folder: {outside[0]!r}",
                hint="this is not how models are published: do not use it",
                field="model",
            )
        if missing:
            raise ModelError(
                f"{len(missing)} of {len(names)} weight files are missing, first {missing[0]}",
                hint="finish the download of the model",
                field="model",
            )
        return [folder / name for name in names]
    single = folder / "model.safetensors"
    if single.is_file():
        return [single]
    if any(next(folder.glob(pattern), None) for pattern in _PICKLES):
        raise ModelError(
            "the checkpoint is stored as pickle, which can run code when it is opened",
            hint="save it as safetensors: model.save_pretrained(folder) with a recent transformers",
            field="model",
        )
    raise ModelError(
        "there are no weights in the folder",
        hint="expected model.safetensors or model.safetensors.index.json",
        field="model",
    )
