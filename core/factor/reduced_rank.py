# SPDX-License-Identifier: Apache-2.0
"""Reduced-rank regression: the best map of a given rank from what a layer sees to what it should say.

Closed form (Izenman 1975), for a layer behind one that was already compressed: its factors are fitted to the
inputs it will get and to the outputs of the original.
"""

import torch
from torch import Tensor

from core.factor.local import local_factors
from core.factor.metrics import root

WORK = torch.float64


def reduced_rank(
    square: Tensor,
    cross: Tensor,
    output_weight: Tensor | None,
    rank: int,
    ridge: float = 0.0,
    towards: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(up (n, r), down (r, m)), minimising E||G^{1/2} (y - U D z)||^2 + lambda ||G^{1/2} (U D - W)||^2.

    square (m, m) = E[z z^T] and cross (m, n) = E[z y^T], centred both when a bias is fitted; output_weight G
    (n, n), (n) or None for the identity; lambda is `ridge` times the mean of the diagonal of `square`;
    towards W (n, m), None for zero. With S = square + lambda I, M = (cross^T + lambda W) S^{-1} is the best
    map without a limit of rank, and the error is ||G^{1/2} (M - U D) S^{1/2}||^2 and a constant.
    """
    square, cross = square.to(WORK), cross.to(WORK)
    weight = ridge * square.diagonal().mean()
    damped = square + weight * torch.eye(len(square), dtype=WORK, device=square.device)
    wanted = cross.T if towards is None else cross.T + weight * towards.to(WORK)
    return local_factors(wanted @ torch.linalg.pinv(damped, hermitian=True), root(damped), output_weight).at(
        rank
    )
