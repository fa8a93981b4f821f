# SPDX-License-Identifier: Apache-2.0
"""Stream text through the original model, one layer in memory, and keep what the recipe needs per layer.

Hidden states live in a file, not in memory, and statistics are one file per layer. Layer i counts as done
when its statistics exist; its hidden states are removed only after layer i+1's were written, so a run that
is killed anywhere continues with the first layer that is missing.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from core.arch import Architecture
from core.convert import LayerStatistics
from core.errors import ModelError
from core.facts import ModelFacts
from core.rope.scores import PairNorms
from core.weights.skeleton import Skeleton
from core.weights.space import create

# tokens per forward pass: large enough for efficient matrix products, small beside one layer's weights
BATCH_TOKENS = 4096


class Observer:
    """Collects one layer's statistics from the inputs and outputs of its query and key projections."""

    def __init__(self, facts: ModelFacts, attention: nn.Module, family: Architecture) -> None:
        self._norms = PairNorms(facts.heads, facts.kv_heads, facts.head_dim)
        self._covariance = torch.zeros(facts.hidden_size, facts.hidden_size, dtype=torch.float64)
        self._tokens = 0
        self._query: Tensor | None = None
        self._hooks = [
            attention.get_submodule(family.query).register_forward_hook(self._on_query),
            attention.get_submodule(family.key).register_forward_hook(self._on_key),
        ]

    def _on_query(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        del module
        flat = inputs[0].flatten(0, -2)
        self._covariance += (flat.T @ flat).cpu().double()
        self._tokens += flat.shape[0]
        self._query = output.flatten(0, -2)

    def _on_key(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        del module, inputs
        assert self._query is not None
        self._norms.add(self._query, output.flatten(0, -2))

    def finish(self) -> LayerStatistics:
        """Remove the hooks and return the means."""
        for hook in self._hooks:
            hook.remove()
        return LayerStatistics(self._norms.contribution(), self._covariance / max(self._tokens, 1))


def collect(
    skeleton: Skeleton, facts: ModelFacts, family: Architecture, windows: Tensor, folder: Path
) -> Iterator[int]:
    """Yield each layer's index as soon as its statistics are in `folder`; call again to resume.

    windows: token ids (n, context). `folder` belongs to one model and one calibration text.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shape = (windows.shape[0], windows.shape[1], facts.hidden_size)
    start = next((i for i in range(facts.layers) if not _statistics_file(folder, i).is_file()), facts.layers)
    yield from range(start)
    if start < facts.layers and not _hidden_file(folder, start).is_file():
        start = 0
        _store_hidden(folder, 0, skeleton.embed(windows))
    for index in range(start, facts.layers):
        hidden = _map(_hidden_file(folder, index), shape)
        statistics = _run_layer(skeleton, facts, family, index, hidden, folder)
        _save_statistics(folder, index, statistics)
        _hidden_file(folder, index).unlink(missing_ok=True)
        yield index
    _hidden_file(folder, facts.layers).unlink(missing_ok=True)


def load_statistics(folder: Path, index: int) -> LayerStatistics:
    """The statistics of layer `index`, written by `collect`."""
    return LayerStatistics(**load_file(_statistics_file(folder, index)))


@torch.no_grad()
def _run_layer(
    skeleton: Skeleton, facts: ModelFacts, family: Architecture, index: int, hidden: Tensor, folder: Path
) -> LayerStatistics:
    """Run layer `index` over all windows, writing the next layer's input as it goes."""
    layer = skeleton.layer(index)
    attention = layer.get_submodule(
        family.attention.format(i=index).removeprefix(family.layer.format(i=index) + ".")
    )
    observer = Observer(facts, attention, family)
    target = _hidden_file(folder, index + 1)
    partial = target.with_suffix(".partial")
    output = _create(partial, tuple(hidden.shape))
    step = max(1, BATCH_TOKENS // hidden.shape[1])
    for first in range(0, hidden.shape[0], step):
        batch = hidden[first : first + step].to(skeleton.device)
        output[first : first + step] = skeleton.run(layer, batch).cpu()
    if not torch.isfinite(output).all():
        raise ModelError(
            f"layer {index} gives infinite or undefined values on the calibration text",
            hint="the checkpoint is damaged or not a float checkpoint",
        )
    skeleton.empty(index)
    del output
    _sync(partial)
    partial.rename(target)
    return observer.finish()


def _store_hidden(folder: Path, index: int, hidden: Tensor) -> None:
    partial = _hidden_file(folder, index).with_suffix(".partial")
    mapped = _create(partial, tuple(hidden.shape))
    mapped.copy_(hidden)
    del mapped
    _sync(partial)
    partial.rename(_hidden_file(folder, index))


def _save_statistics(folder: Path, index: int, statistics: LayerStatistics) -> None:
    target = _statistics_file(folder, index)
    partial = target.with_suffix(".partial")
    tensors = {
        "contribution": statistics.contribution.contiguous(),
        "input_covariance": statistics.input_covariance.contiguous(),
    }
    partial.write_bytes(save(tensors))
    _sync(partial)
    partial.rename(target)


def _create(path: Path, shape: tuple[int, ...]) -> Tensor:
    """A new float32 tensor backed by `path`; raises OSError when the disk is full."""
    create(path, 4 * math.prod(shape))
    return _map(path, shape)


def _map(path: Path, shape: tuple[int, ...]) -> Tensor:
    """The float32 tensor backed by `path`; pages are written back by the system."""
    return torch.from_file(str(path), shared=True, size=math.prod(shape), dtype=torch.float32).view(shape)


def _sync(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def _hidden_file(folder: Path, index: int) -> Path:
    return folder / f"hidden-{index:05d}.f32"


def _statistics_file(folder: Path, index: int) -> Path:
    return folder / f"layer-{index:05d}.safetensors"
