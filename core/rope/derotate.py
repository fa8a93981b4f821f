# SPDX-License-Identifier: Apache-2.0
"""rope.derotate: what a query meets a key with on the pairs that no longer rotate."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from core.calibrate.layer_statistics import LayerStatistics
from core.rope.pairs import from_pairs, to_pairs


def identity(query: Tensor, statistics: LayerStatistics) -> Tensor:
    """The rotation becomes 1: the pair loses its position information (MHA2MLA)."""
    del statistics
    return query


def expected(query: Tensor, statistics: LayerStatistics) -> Tensor:
    """The rotation of pair f in head h becomes its best constant c_hf, folded into the query.

    To first order a changed score costs loss dL/ds, so the constant is the least-squares fit, over cached
    tokens s, of what the rotated pair means to the loss by what the unrotated one means:

        b_s = sum_t dL/ds_ts e^{i(t-s)theta_f} q_t,   a_s = sum_t dL/ds_ts q_t,
        c = sum_s |k_s|^2 b_s conj(a_s) / sum_s |k_s|^2 |a_s|^2

    Weighting distances by attention mass instead gives E_D[e^{-i D theta_f}], which assumes that content and
    distance are independent: at full rank with 8 of 96 pairs the demo's perplexity was x4.0 with it, x3.0
    without any constant and x2.06 with this one.

    query (n_h * d_h, a) -> the same shape. Raises ValueError without the statistics of a backward pass.
    """
    if statistics.derotation is None:
        raise ValueError("expected needs the statistics of a backward pass")
    real, imaginary = statistics.derotation.to(query)
    heads, _ = real.shape
    constants = torch.complex(real, imaginary).T[:, :, None]
    return from_pairs(to_pairs(query, heads) * constants).flatten(0, 1)


DEROTATE: Mapping[str, Callable[[Tensor, LayerStatistics], Tensor]] = {
    "identity": identity,
    "expected": expected,
}
