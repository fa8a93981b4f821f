# SPDX-License-Identifier: Apache-2.0
"""Forward and backward pass as one row of steps, each with a line for a human."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from core.arch import Architecture
from core.calibrate.fisher import collect_fisher, finished_backwards
from core.calibrate.statistics import collect, finished_layers
from core.facts import ModelFacts
from core.weights.skeleton import Skeleton


@dataclass(frozen=True)
class Sample:
    """What calibration reads: token ids `windows` (n, context), of which the first `fisher_windows` go
    through the backward pass too (0: no backward pass), with `derotation` for the constants that replace
    rotations as well, and with `linears` for a budget of weights. `seed` draws labels and attention windows.
    `image_weight` is what a token of an image counts beside one of text.
    """

    windows: Tensor
    fisher_windows: int = 0
    seed: int = 0
    derotation: bool = False
    linears: bool = False
    image_weight: float = 1.0


def step_count(layers: int, sample: Sample) -> int:
    """Steps that `calibrate` takes: every layer forward; the head and every layer backward."""
    return layers + (layers + 1 if sample.fisher_windows else 0)


def finished_steps(facts: ModelFacts, sample: Sample, folder: Path) -> int:
    """Of those steps, how many an earlier attempt left finished in `folder`."""
    layers = finished_layers(facts, sample.windows, folder, sample.fisher_windows)
    if layers < facts.layers or not sample.fisher_windows:
        return layers
    return layers + finished_backwards(facts, sample.windows, folder, sample.fisher_windows)


def calibrate(
    skeleton: Skeleton, facts: ModelFacts, family: Architecture, sample: Sample, folder: Path
) -> Iterator[str]:
    """Yield a line for every finished step; stop anywhere and call again to resume."""
    windows, seed, fisher_windows = sample.windows, sample.seed, sample.fisher_windows
    for index in collect(
        skeleton,
        facts,
        family,
        windows,
        folder,
        seed=seed,
        fisher_windows=fisher_windows,
        linears=sample.linears,
        image_weight=sample.image_weight,
    ):
        yield f"layer {index}: {windows.numel():,} tokens"
    if not fisher_windows:
        return
    tokens = fisher_windows * windows.shape[1]
    for index in collect_fisher(
        skeleton,
        facts,
        family,
        windows,
        folder,
        seed=seed,
        fisher_windows=fisher_windows,
        derotation=sample.derotation,
        linears=sample.linears,
    ):
        name = f"layer {index}" if index < facts.layers else "head"
        yield f"{name}, backwards: {tokens:,} tokens"
