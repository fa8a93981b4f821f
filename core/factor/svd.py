# SPDX-License-Identifier: Apache-2.0
"""factor.form joint and split: the latent as a truncated SVD of the weights (MHA2MLA, section 3.2), in the
metrics of factor.input and factor.output."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from core.factor.local import local_factors
from core.factor.metrics import Stacked


@dataclass(frozen=True)
class Factors:
    """c = down x, k_nope = k_up c[:k_rank], v = v_up c[-v_rank:].

    down (r, d), k_up (n_kv * d_n, k_rank), v_up (n_kv * d_h, v_rank), all float64.
    """

    down: Tensor
    k_up: Tensor
    v_up: Tensor


class Joint:
    """SVD_joint: [W_K,nope; W_V] with every head stacked, one shared latent (MHA2MLA, eq. 10)."""

    def __init__(self, stacked: Stacked, output: Tensor, inputs: Tensor) -> None:
        self._keys = len(stacked.key)
        self._both = local_factors(stacked.both, inputs, output)

    def squares(self) -> Tensor:
        """What each further number of the latent saves, largest first."""
        return self._both.squares

    def factors(self, k_rank: int, v_rank: int) -> Factors:
        """k_rank == v_rank is the width of the latent."""
        del v_rank
        up, down = self._both.at(k_rank)
        return Factors(down, up[: self._keys], up[self._keys :])


class Split:
    """SVD_split: W_K,nope and W_V each get an SVD of their own; the latent is [c_K; c_V] (MHA2MLA, eq. 9)."""

    def __init__(self, stacked: Stacked, output: Tensor, inputs: Tensor) -> None:
        keys = len(stacked.key)
        self._key = local_factors(stacked.key, inputs, output[:keys, :keys])
        self._value = local_factors(stacked.value, inputs, output[keys:, keys:])

    def squares(self) -> Tensor:
        """What each further number saves, half of them on each side; what one lacks the other gives."""
        return interleaved(self._key.squares, self._value.squares)

    def factors(self, k_rank: int, v_rank: int) -> Factors:
        """A latent of k_rank + v_rank numbers."""
        k_up, k_down = self._key.at(k_rank)
        v_up, v_down = self._value.at(v_rank)
        return Factors(torch.cat([k_down, v_down]), k_up, v_up)


def interleaved(key: Tensor, value: Tensor) -> Tensor:
    """Two falling spectra as one, a number of each in turn; what one lacks the other gives."""
    both = min(len(key), len(value))
    pairs = torch.stack([key[:both], value[:both]], dim=1).flatten()
    return torch.cat([pairs, key[both:], value[both:]])


FORM: Mapping[str, type[Joint] | type[Split]] = {"joint": Joint, "split": Split}
