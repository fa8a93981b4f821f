# SPDX-License-Identifier: Apache-2.0
"""Hidden states and gradients between two layers: float32 files of (windows, context, d), never in memory.

`hidden-i` is the input of layer i, `gradient-i` the gradient of the loss with respect to it. They are read
and written, not mapped: pages of a mapped file count as memory of the process, and grow with the tokens.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy
import torch
from torch import Tensor

from core.calibrate.layer_statistics import sync
from core.weights.space import claim

# tokens per forward pass: large enough for efficient matrix products, small beside one layer's weights
BATCH_TOKENS = 1024
_FLOAT32 = 4


class StateFiles:
    """The states of one kind in `folder`, `shape` = (windows, context, d) each."""

    def __init__(self, folder: Path, kind: str, shape: tuple[int, int, int]) -> None:
        self._folder = folder
        self._kind = kind
        self.shape = shape

    def path(self, index: int) -> Path:
        """The file at the input of layer `index`."""
        return self._folder / f"{self._kind}-{index:05d}.f32"

    def has(self, index: int) -> bool:
        """Whether all windows are there."""
        path = self.path(index)
        return path.is_file() and path.stat().st_size >= state_bytes(self.shape)

    def read(self, index: int, batch: slice) -> Tensor:
        """The states of some windows, (batch, context, d)."""
        windows = batch.stop - batch.start
        start = state_bytes((batch.start, *self.shape[1:]))
        flat = numpy.fromfile(
            self.path(index), numpy.float32, windows * self.shape[1] * self.shape[2], offset=start
        )
        return torch.from_numpy(flat).view(windows, *self.shape[1:])

    @contextmanager
    def writing(self, index: int) -> Iterator[Callable[[Tensor], None]]:
        """Gives a function that appends windows; the file appears when the block ends without an error.

        Raises OSError when the disk is full, before anything is computed.
        """
        partial = self.path(index).with_suffix(".partial")
        with partial.open("wb") as handle:
            claim(handle.fileno(), state_bytes(self.shape))

            def append(states: Tensor) -> None:
                handle.write(states.detach().cpu().contiguous().numpy().data)

            yield append
        sync(partial)
        partial.rename(self.path(index))

    def keep_first(self, index: int, windows: int) -> None:
        """Give back the disk space of all but the first `windows` windows; with none, remove the file."""
        path, size = self.path(index), state_bytes((windows, *self.shape[1:]))
        if size == 0:
            path.unlink(missing_ok=True)
        elif path.is_file() and path.stat().st_size > size:
            os.truncate(path, size)

    def remove_all(self) -> None:
        """Remove every file of this kind, whole or partial."""
        for path in self._folder.glob(f"{self._kind}-*"):
            path.unlink()


def in_batches(windows: int, context: int, tokens: int = BATCH_TOKENS) -> Iterator[slice]:
    """Slices of whole windows holding about `tokens` tokens each."""
    step = max(1, tokens // context)
    for first in range(0, windows, step):
        yield slice(first, min(first + step, windows))


def state_bytes(shape: tuple[int, int, int]) -> int:
    """Size of a file of states."""
    return _FLOAT32 * math.prod(shape)
