# SPDX-License-Identifier: Apache-2.0
"""What a model's layers look like to a recipe: what every choice of rotary pairs and rank would cost.

To second order the loss grows by E[(g . dk)^2] / 2 for an error dk of keys and values with gradient g, so
what a latent of rank r discards costs half the sum of its squared singular values in the Fisher metric, and
costs of layers add up (methods: allocate). Rotations that are dropped cost logit energy, in another unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.calibrate.layer_statistics import LayerStatistics
from core.convert import LayerConverter
from core.factor.metrics import energy, fisher_block
from core.widths import Widths

WORK = torch.float64


@dataclass(frozen=True)
class LayerProfile:
    """One layer under one recipe, for each number of rotary dims in `rope_dims`, ascending.

    rope_lost (n): logit energy per query that no longer rotates.
    spectrum (n, width): squared singular values of what goes into the latent, descending; the loss (in nats
    per token, to second order) that each further number of the latent saves.
    """

    rope_dims: tuple[int, ...]
    rope_lost: Tensor
    spectrum: Tensor

    def tail(self, rope_dim: int) -> Tensor:
        """(width + 1): loss left in the latent by rank 0, 1, …"""
        spectrum = self.spectrum[self.rope_dims.index(rope_dim)]
        return torch.cat([spectrum.flip(0).cumsum(0).flip(0), spectrum.new_zeros(1)])

    def loss(self, widths: Widths) -> float:
        """Nats per token that a latent of this width costs; rotations are not counted."""
        tail = self.tail(widths.rope_dim)
        return float(tail[min(widths.rank, len(tail) - 1)])


def profile_layer(
    converters: Sequence[tuple[int, LayerConverter]], statistics: LayerStatistics
) -> LayerProfile:
    """The profile of one layer from its converters, one for each number of rotary dims, ascending."""
    lost, spectra = [], []
    for _, converter in converters:
        squares = converter.factoring.form.squares().cpu()
        if statistics.fisher is not None:
            squares = squares * _nats_per_square(converter, statistics, squares)
        spectra.append(squares)
        scores, kept = converter.scores, converter.split.kept
        saved = sum(float(scores[row, pair]) for row, pairs in enumerate(kept) for pair in pairs)
        is_exact = converter.split.key_rope.shape[0] == 0
        lost.append(0.0 if is_exact else float(scores.sum()) - saved)
    width = max(len(one) for one in spectra)
    padded = [torch.cat([one, one.new_zeros(width - len(one))]) for one in spectra]
    dims = tuple(rope_dim for rope_dim, _ in converters)
    return LayerProfile(dims, torch.tensor(lost, dtype=WORK), torch.stack(padded))


def _nats_per_square(converter: LayerConverter, statistics: LayerStatistics, squares: Tensor) -> float:
    """Half the Fisher energy of keys and values, over what the recipe's own metrics say they are.

    1/2 when the metrics are the Fisher ones; others are scaled to give the same whole.
    """
    assert statistics.fisher is not None
    factoring = converter.factoring
    seen = fisher_block(factoring.stacked, statistics)
    whole = energy(seen, factoring.stacked.both, factoring.inputs @ factoring.inputs)
    return float(whole / (2 * squares.sum().clamp_min(torch.finfo(WORK).tiny)))
