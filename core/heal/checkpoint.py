# SPDX-License-Identifier: Apache-2.0
"""What a stopped healing goes on with: the last state, and the best weights. Files appear whole.

`best` is always written before a `last` that counts it. A run killed in between goes on from the `last`
before, sees the same numbers again and writes the same `best`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.weights.space import disk_error, is_disk_error


class Checkpoints:
    """`last.pt` (weights, optimiser, step, curve) and `best.pt` (weights) in `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def save_last(self, state: Mapping[str, Any]) -> None:
        """`state` holds tensors and plain values, nothing else."""
        self._write("last.pt", state)

    def last(self) -> dict[str, Any] | None:
        """The state to go on with; None at the first start."""
        return self._read("last.pt")

    def save_best(self, weights: Mapping[str, Tensor]) -> None:
        """Weights by name."""
        self._write("best.pt", weights)

    def best(self) -> dict[str, Tensor] | None:
        """The weights with the lowest held-out divergence."""
        return self._read("best.pt")

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self._folder / name
        if not path.is_file():
            return None
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return found

    def _write(self, name: str, state: Mapping[str, Any]) -> None:
        partial = self._folder / f"{name}.partial"
        try:
            with partial.open("wb") as file:
                torch.save(dict(state), file)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise (disk_error(error) if is_disk_error(error) else error) from error
        partial.replace(self._folder / name)
