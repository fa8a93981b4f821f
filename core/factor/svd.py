# SPDX-License-Identifier: Apache-2.0
"""factor.form joint and split: the latent as a truncated SVD of the weights (MHA2MLA, section 3.2), in the
metrics of factor.input and factor.output."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from core.factor.metrics import Stacked, root

WORK = (
    torch.float64
)  # float32 SVD leaves 1e-6 of the largest singular value in directions that are exactly zero


@dataclass(frozen=True)
class Factors:
    """c = down x, k_nope = k_up c[:k_rank], v = v_up c[-v_rank:].

    down (r, d), k_up (n_kv * d_n, k_rank), v_up (n_kv * d_h, v_rank), all float64.
    """

    down: Tensor
    k_up: Tensor
    v_up: Tensor


def best_factors(matrix: Tensor, rank: int, output: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """(up, down) of rank `rank` that minimise ||G^{1/2} (W - up down) P||_F (Eckart-Young in both metrics).

    matrix W (n, d); output G (n, n), inputs P (d, d), symmetric. With G^{1/2} W P = U S V^T the optimum is
    down = V_r^T P^{-1} and up = W P V_r. Rows of `down` have length one, so that the cached latent keeps the
    scale of the inputs, and their largest entry is positive, so that equal inputs give equal bytes.
    """
    matrix = matrix.to(WORK)
    _, _, vt = torch.linalg.svd(root(output) @ matrix @ inputs, full_matrices=False)
    vt = vt[:rank]
    up, down = matrix @ inputs @ vt.T, vt @ torch.linalg.pinv(inputs, hermitian=True)
    length = down.norm(dim=1, keepdim=True).clamp_min(torch.finfo(WORK).tiny)
    largest = down.abs().argmax(dim=1, keepdim=True)
    scale = torch.where(down.gather(1, largest) < 0, -length, length)
    return up * scale.T, down / scale


def joint(stacked: Stacked, output: Tensor, inputs: Tensor, k_rank: int, v_rank: int) -> Factors:
    """SVD_joint: [W_K,nope; W_V] with every head stacked, one shared latent (MHA2MLA, eq. 10).

    k_rank == v_rank is the width of the latent.
    """
    del v_rank
    up, down = best_factors(stacked.both, k_rank, output, inputs)
    keys = len(stacked.key)
    return Factors(down, up[:keys], up[keys:])


def split(stacked: Stacked, output: Tensor, inputs: Tensor, k_rank: int, v_rank: int) -> Factors:
    """SVD_split: W_K,nope and W_V each get an SVD of their own; the latent is [c_K; c_V] (MHA2MLA, eq. 9)."""
    keys = len(stacked.key)
    k_up, k_down = best_factors(stacked.key, k_rank, output[:keys, :keys], inputs)
    v_up, v_down = best_factors(stacked.value, v_rank, output[keys:, keys:], inputs)
    return Factors(torch.cat([k_down, v_down]), k_up, v_up)


Form = Callable[[Stacked, Tensor, Tensor, int, int], Factors]

FORM: Mapping[str, Form] = {"joint": joint, "split": split}
