# SPDX-License-Identifier: Apache-2.0
"""Read tensors of a checkpoint one at a time."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from core.arch import Architecture
from core.errors import ModelError
from core.weights.index import TensorInfo, current_names, read_index

TORCH_DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int32": torch.int32,
    "int8": torch.int8,
}


class TensorSource:
    """Lazy view of a checkpoint: nothing but headers is read until a tensor is asked for.

    Tensors have the names that the model of `family` has today, whatever older files call them.
    """

    def __init__(self, folder: Path, family: Architecture | None = None) -> None:
        self.infos: dict[str, TensorInfo] = current_names(read_index(folder), family)

    def __contains__(self, name: str) -> bool:
        return name in self.infos

    def read(self, name: str) -> Tensor:
        """The tensor called `name`, in its stored dtype, on the CPU; raises ModelError when damaged."""
        try:
            # opened per read: a mapping kept open would keep the file's pages counted as ours
            info = self.infos[name]
            with safe_open(info.file, framework="pt") as handle:
                tensor: Tensor = handle.get_tensor(info.stored or name)
                return tensor.clone()
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{name} cannot be read: {error}", hint="fetch the file again") from error

    def read_prefix(self, prefix: str) -> dict[str, Tensor]:
        """Every tensor below `prefix`, names relative to it ("model.layers.0." -> "mlp.up_proj.weight")."""
        return {name[len(prefix) :]: self.read(name) for name in self.infos if name.startswith(prefix)}
