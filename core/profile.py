# SPDX-License-Identifier: Apache-2.0
"""What a model's layers look like to a recipe: what every choice of rotary pairs and rank would cost.

To second order the loss grows by E[(g . dk)^2] / 2 for an error dk of keys and values with gradient g, so
what a latent of rank r discards costs half the sum of its squared singular values in the Fisher metric, and
costs of layers add up (methods: allocate). Rotations that are dropped cost logit energy, in another unit.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from core.calibrate.layer_statistics import LayerStatistics
from core.convert import LayerConverter
from core.factor.metrics import energy, fisher_block
from core.layer_profile import LayerProfile

WORK = torch.float64


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
    return LayerProfile(dims, torch.tensor(lost, dtype=WORK).numpy(), torch.stack(padded).numpy())


def _nats_per_square(converter: LayerConverter, statistics: LayerStatistics, squares: Tensor) -> float:
    """Half the Fisher energy of keys and values, over what the recipe's own metrics say they are.

    1/2 when the metrics are the Fisher ones; others are scaled to give the same whole.
    """
    assert statistics.fisher is not None
    factoring = converter.factoring
    seen = fisher_block(factoring.stacked, statistics)
    whole = energy(seen, factoring.stacked.both, factoring.inputs @ factoring.inputs)
    return float(whole / (2 * squares.sum().clamp_min(torch.finfo(WORK).tiny)))
