# SPDX-License-Identifier: Apache-2.0
"""factor.form joint and split: the latent as a truncated SVD of the weights (MHA2MLA, section 3.2)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

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


def truncated_svd(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(up, down) with up @ down the best rank-`rank` approximation of `matrix` (out, in) (Eckart-Young).

    All of S goes to `up`, so the rows of `down` are orthonormal: the cached latent keeps the scale of the
    keys and values. Signs are fixed (largest entry of each row of `down` positive) for reproducible bytes.
    """
    u, s, vt = torch.linalg.svd(matrix.to(WORK), full_matrices=False)
    u, s, vt = u[:, :rank], s[:rank], vt[:rank]
    largest = vt.abs().argmax(dim=1, keepdim=True)
    sign = torch.where(vt.gather(1, largest) < 0, -1.0, 1.0).to(WORK)
    return u * s * sign.T, vt * sign


def joint(key: Tensor, value: Tensor, k_rank: int, v_rank: int) -> Factors:
    """SVD_joint: [W_K,nope; W_V] = U S V^T with every head stacked, one shared latent (MHA2MLA, eq. 10).

    key (n_kv * d_n, d), value (n_kv * d_h, d); k_rank == v_rank is the width of the latent.
    """
    del v_rank
    up, down = truncated_svd(torch.cat([key, value]), k_rank)
    return Factors(down, up[: key.shape[0]], up[key.shape[0] :])


def split(key: Tensor, value: Tensor, k_rank: int, v_rank: int) -> Factors:
    """SVD_split: W_K,nope and W_V each get an SVD of their own; the latent is [c_K; c_V] (MHA2MLA, eq. 9)."""
    k_up, k_down = truncated_svd(key, k_rank)
    v_up, v_down = truncated_svd(value, v_rank)
    return Factors(torch.cat([k_down, v_down]), k_up, v_up)


FORM: Mapping[str, Callable[[Tensor, Tensor, int, int], Factors]] = {"joint": joint, "split": split}
