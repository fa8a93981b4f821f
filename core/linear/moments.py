# SPDX-License-Identifier: Apache-2.0
"""What calibration knows of the linear layers of one decoder layer: moments of inputs, sizes of gradients.

Kept in files of their own beside those of core/calibrate/layer_statistics.py, written before them, so that a
layer with statistics has these too. Only a budget of weights asks for them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from core.arch import Architecture
from core.calibrate.layer_statistics import save_tensors
from core.calibrate.observer import input_sums
from core.factor.metrics import InputMoments

# sums over many tokens; the products of one batch are float32
WORK = torch.float64
# linear layers that read the same input, by what the input is called
READERS = {"attention": ("query",), "heads": ("output",), "mlp": ("gate", "up"), "inner": ("down",)}
# what a channel counts at least: few gradient tokens may have seen none of what it does
_LEAST_WEIGHT = 0.01
_KINDS = ("covariance", "mean", "l1")


@dataclass(frozen=True)
class LinearStatistics:
    """What one layer's linear layers read, and what their outputs mean to the loss; float64.

    inputs: moments by the keys of READERS; gradients: for each part the mean square of the loss gradient at
    each output channel (out_features), empty when there was no backward pass.
    """

    inputs: dict[str, InputMoments]
    gradients: dict[str, Tensor]

    def to(self, device: torch.device) -> "LinearStatistics":
        """The same statistics on `device`."""
        inputs = {name: one.to(device) for name, one in self.inputs.items()}
        return LinearStatistics(inputs, {part: value.to(device) for part, value in self.gradients.items()})

    def of(self, part: str) -> InputMoments:
        """Moments of the inputs of `part`."""
        return next(self.inputs[name] for name, parts in READERS.items() if part in parts)

    def channel_weight(self, part: str) -> Tensor | None:
        """How much each output channel of `part` counts, about 1 on average; None without a backward pass."""
        if part not in self.gradients:
            return None
        squares = self.gradients[part]
        return squares / squares.mean() + _LEAST_WEIGHT


def paths(family: Architecture) -> dict[str, str]:
    """Where the original's linear layers are inside a decoder layer, by part."""
    attention = family.attention.removeprefix(family.layer + ".")
    gate, up, down = family.mlp or ("", "", "")
    found = {
        "query": f"{attention}.{family.query}",
        "output": f"{attention}.{family.output}",
        "gate": gate,
        "up": up,
        "down": down,
    }
    return {part: path for part, path in found.items() if path}


class InputObserver:
    """Sums over the inputs of a layer's linear layers while it runs."""

    def __init__(self, layer: nn.Module, family: Architecture) -> None:
        where = paths(family)
        self._sums: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        self._weights: Tensor | None = None
        self._weight = 0.0
        self._hooks = [
            layer.get_submodule(where[parts[-1]]).register_forward_pre_hook(self._adding(name))
            for name, parts in READERS.items()
        ]

    def weigh(self, weights: Tensor | None) -> None:
        """How much each token of the batch to come counts, (batch, context); None: all alike."""
        self._weights = weights

    def _adding(self, name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def add(module: nn.Module, inputs: tuple[Tensor]) -> None:
            del module
            flat = inputs[0].detach().flatten(0, -2)
            exact = list(input_sums(flat, self._weights))
            if name in self._sums:
                exact = [one + before for one, before in zip(exact, self._sums[name], strict=True)]
            self._sums[name] = (exact[0], exact[1], exact[2])
            if name == "mlp":
                self._weight += len(flat) if self._weights is None else float(self._weights.sum())

        return add

    def finish(self) -> dict[str, Tensor]:
        """Remove the hooks and return the means, as a file holds them."""
        for hook in self._hooks:
            hook.remove()
        return {
            f"{name}.{kind}": total / self._weight
            for name, sums in self._sums.items()
            for kind, total in zip(_KINDS, sums, strict=True)
        }


class GradientObserver:
    """Sums of squared gradients at the outputs of a layer's linear layers while it runs backwards."""

    def __init__(self, layer: nn.Module, family: Architecture) -> None:
        self._sums: dict[str, Tensor] = {}
        self._tokens = 0
        self._hooks = [
            layer.get_submodule(path).register_forward_hook(self._watching(part))
            for part, path in paths(family).items()
        ]

    def _watching(self, part: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        def add(gradient: Tensor) -> None:
            squares = gradient.flatten(0, -2).square()
            self._sums[part] = self._sums.get(part, 0) + squares.sum(dim=0).cpu().to(WORK)
            self._tokens += len(squares) if part == "output" else 0

        def watch(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            del module, inputs
            output.register_hook(add)

        return watch

    def finish(self) -> dict[str, Tensor]:
        """Remove the hooks and return the means, as a file holds them."""
        for hook in self._hooks:
            hook.remove()
        return {part: total / self._tokens for part, total in self._sums.items()}


def save_inputs(folder: Path, index: int, tensors: dict[str, Tensor]) -> None:
    """Keep what an InputObserver found of layer `index`."""
    save_tensors(_inputs_file(folder, index), tensors)


def save_gradients(folder: Path, index: int, tensors: dict[str, Tensor]) -> None:
    """Keep what a GradientObserver found of layer `index`."""
    save_tensors(_gradients_file(folder, index), tensors)


def has_linears(folder: Path, layers: int) -> bool:
    """Whether statistics in `folder` know the linear layers of every layer."""
    return all(_inputs_file(folder, index).is_file() for index in range(layers))


def load_linears(folder: Path, index: int) -> LinearStatistics:
    """What is known of the linear layers of layer `index`."""
    found = load_file(_inputs_file(folder, index))
    inputs = {name: InputMoments(*(found[f"{name}.{kind}"] for kind in _KINDS)) for name in READERS}
    file = _gradients_file(folder, index)
    return LinearStatistics(inputs, load_file(file) if file.is_file() else {})


def _inputs_file(folder: Path, index: int) -> Path:
    return folder / f"linear-{index:05d}.safetensors"


def _gradients_file(folder: Path, index: int) -> Path:
    return folder / f"linear-fisher-{index:05d}.safetensors"
