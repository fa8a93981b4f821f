# SPDX-License-Identifier: Apache-2.0
"""factor.form joint and split: the latent as a truncated SVD of the weights (MHA2MLA, section 3.2), in the
metrics of factor.input and factor.output."""

from collections.abc import Mapping
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


@dataclass(frozen=True)
class Decomposition:
    """Every rank of one factorisation: up (n, m) and down (m, d), most important first.

    squares (m): what each further rank takes off the squared error in the metrics.
    """

    up: Tensor
    down: Tensor
    squares: Tensor

    def truncated(self, rank: int) -> tuple[Tensor, Tensor]:
        """(up, down) of the best approximation of rank `rank`."""
        return self.up[:, :rank], self.down[:rank]


def decompose(matrix: Tensor, output: Tensor, inputs: Tensor) -> Decomposition:
    """Factors up, down whose every truncation minimises ||G^{1/2} (W - up down) P||_F (Eckart-Young).

    matrix W (n, d); output G (n, n), inputs P (d, d), symmetric. With G^{1/2} W P = U S V^T the optimum is
    down = V_r^T P^{-1} and up = W P V_r. Rows of `down` have length one, so that the cached latent keeps the
    scale of the inputs, and their largest entry is positive, so that equal inputs give equal bytes.
    """
    matrix = matrix.to(WORK)
    _, singular, vt = torch.linalg.svd(root(output) @ matrix @ inputs, full_matrices=False)
    up, down = matrix @ inputs @ vt.T, vt @ torch.linalg.pinv(inputs, hermitian=True)
    length = down.norm(dim=1, keepdim=True).clamp_min(torch.finfo(WORK).tiny)
    largest = down.abs().argmax(dim=1, keepdim=True)
    scale = torch.where(down.gather(1, largest) < 0, -length, length)
    return Decomposition(up * scale.T, down / scale, singular.square())


class Joint:
    """SVD_joint: [W_K,nope; W_V] with every head stacked, one shared latent (MHA2MLA, eq. 10)."""

    def __init__(self, stacked: Stacked, output: Tensor, inputs: Tensor) -> None:
        self._keys = len(stacked.key)
        self._both = decompose(stacked.both, output, inputs)

    def squares(self) -> Tensor:
        """What each further number of the latent saves, largest first."""
        return self._both.squares

    def factors(self, k_rank: int, v_rank: int) -> Factors:
        """k_rank == v_rank is the width of the latent."""
        del v_rank
        up, down = self._both.truncated(k_rank)
        return Factors(down, up[: self._keys], up[self._keys :])


class Split:
    """SVD_split: W_K,nope and W_V each get an SVD of their own; the latent is [c_K; c_V] (MHA2MLA, eq. 9)."""

    def __init__(self, stacked: Stacked, output: Tensor, inputs: Tensor) -> None:
        keys = len(stacked.key)
        self._key = decompose(stacked.key, output[:keys, :keys], inputs)
        self._value = decompose(stacked.value, output[keys:, keys:], inputs)

    def squares(self) -> Tensor:
        """What each further number saves, half of them on each side; what one lacks the other gives."""
        key, value = self._key.squares, self._value.squares
        both = min(len(key), len(value))
        pairs = torch.stack([key[:both], value[:both]], dim=1).flatten()
        return torch.cat([pairs, key[both:], value[both:]])

    def factors(self, k_rank: int, v_rank: int) -> Factors:
        """A latent of k_rank + v_rank numbers."""
        k_up, k_down = self._key.truncated(k_rank)
        v_up, v_down = self._value.truncated(v_rank)
        return Factors(torch.cat([k_down, v_down]), k_up, v_up)


FORM: Mapping[str, type[Joint] | type[Split]] = {"joint": Joint, "split": Split}
