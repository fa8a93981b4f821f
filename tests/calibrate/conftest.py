# SPDX-License-Identifier: Apache-2.0
"""A calibration of a tiny model, forward and backward, and the whole model beside it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from core.arch.llama import LLAMA
from core.calibrate.steps import Sample, calibrate
from core.facts import read_facts
from core.weights.skeleton import Skeleton


@pytest.fixture
def windows() -> Tensor:
    """Token ids (6, 40)."""
    return torch.randint(2, 256, (6, 40), generator=torch.Generator().manual_seed(5))


@pytest.fixture
def steps_of() -> Callable[..., Iterator[str]]:
    """steps_of(model, windows, folder, fisher_windows=4, seed=0) -> the steps of a calibration to come."""

    def start(model: Path, windows: Tensor, folder: Path, **options: Any) -> Iterator[str]:
        sample = Sample(windows, **({"fisher_windows": 4} | options))
        return calibrate(
            Skeleton(model, LLAMA, torch.device("cpu")), read_facts(str(model)), LLAMA, sample, folder
        )

    return start


@pytest.fixture
def statistics_bytes() -> Callable[[Path], dict[str, bytes]]:
    """statistics_bytes(folder) -> the bytes of every file there, statistics or not."""
    return lambda folder: {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
