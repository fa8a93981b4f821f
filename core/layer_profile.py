# SPDX-License-Identifier: Apache-2.0
"""One layer as an allocation sees it. Arrays of numpy: the web process has no tensor library."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.widths import Widths

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LayerProfile:
    """One layer under one recipe, for each number of rotary dims in `rope_dims`, ascending.

    rope_lost (n): logit energy per query that no longer rotates.
    spectrum (n, width): squared singular values of what goes into the latent, descending; the loss (in nats
    per token, to second order) that each further number of the latent saves.
    """

    rope_dims: tuple[int, ...]
    rope_lost: Array
    spectrum: Array

    def at(self, rope_dim: int) -> Array:
        """(width): the spectrum beside `rope_dim` rotary dims, one of those profiled."""
        found: Array = self.spectrum[self.rope_dims.index(rope_dim)]
        return found

    def tail(self, rope_dim: int) -> Array:
        """(width + 1): loss left in the latent by rank 0, 1, …"""
        return np.append(self.at(rope_dim)[::-1].cumsum()[::-1], 0.0)

    def loss(self, widths: Widths) -> float:
        """Nats per token that a latent of this width costs; rotations are not counted."""
        tail = self.tail(widths.rope_dim)
        return float(tail[min(widths.rank, len(tail) - 1)])
