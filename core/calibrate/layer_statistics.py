# SPDX-License-Identifier: Apache-2.0
"""What calibration knows of one layer, and the two files it is kept in."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor


@dataclass(frozen=True)
class LayerStatistics:
    """Moments of one attention layer on the calibration text, float64.

    x is the input of the projections (after the norm). g = [g_k; g_v] are the gradients of the loss at the
    outputs of the key and value projections (before RoPE); the loss is
    -log p(y) with y drawn from the model itself, so E[g g^T] is the Fisher information, the second-order
    term of the KL divergence to the original. Fisher fields are None when that pass was not asked for, and
    derotation when only it was not.

    contribution      (n_kv, d_h/2)  MHA2MLA's 2-norm score, see core/rope/scores.py
    input_covariance  (d, d)         E[x x^T], not centred
    input_mean        (d)            E[x]
    input_l1          (d)            E|x|
    attention_mass    (n_h, context) probability mass a query puts on the key at distance t - s; rows sum to 1
    fisher            (2 n_kv d_h, 2 n_kv d_h)  E[g g^T] per token
    fisher_input      (2, d, d)      E[|g|^2 x x^T] / E|g|^2, for the keys and for the values
    fisher_mean       (2, d)         E[|g|^2 x] / E|g|^2, likewise
    derotation        (2, n_h, d_h/2)  real and imaginary part of the best constants of core/rope/derotate.py
    """

    contribution: Tensor
    input_covariance: Tensor
    input_mean: Tensor
    input_l1: Tensor
    attention_mass: Tensor
    tokens: int
    fisher: Tensor | None = None
    fisher_input: Tensor | None = None
    fisher_mean: Tensor | None = None
    derotation: Tensor | None = None
    fisher_tokens: int = 0

    def to(self, device: torch.device) -> "LayerStatistics":
        """The same statistics on `device`."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)


def load_statistics(folder: Path, index: int) -> LayerStatistics:
    """The statistics of layer `index`: always those of the forward pass, the Fisher ones when there are."""
    found = load_file(statistics_file(folder, index))
    if fisher_file(folder, index).is_file():
        found |= load_file(fisher_file(folder, index))
    tokens, fisher_tokens = int(found.pop("tokens")), int(found.pop("fisher_tokens", 0))
    return LayerStatistics(**found, tokens=tokens, fisher_tokens=fisher_tokens)


def save_tensors(target: Path, tensors: dict[str, Tensor]) -> None:
    """Write `target` whole or not at all; equal tensors give equal bytes."""
    partial = target.with_suffix(".partial")
    partial.write_bytes(save({name: tensor.contiguous() for name, tensor in tensors.items()}))
    sync(partial)
    partial.rename(target)


def sync(path: Path) -> None:
    """Wait until the bytes of `path` are on the disk."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def statistics_file(folder: Path, index: int) -> Path:
    """What the forward pass found of layer `index`."""
    return folder / f"layer-{index:05d}.safetensors"


def fisher_file(folder: Path, index: int) -> Path:
    """What the backward pass found of layer `index`."""
    return folder / f"fisher-{index:05d}.safetensors"
