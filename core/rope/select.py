# SPDX-License-Identifier: Apache-2.0
"""rope.select: which rotary pairs of each KV head keep RoPE (MHA2MLA, section 3.1).

Every choice maps (scores, pairs kept, start) to sorted pair indices, shape (n_kv, kept). `scores` is
(n_kv, d_h/2); the choices that do not look at text use only its shape.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Select = Callable[[Tensor, int, int], Tensor]


def high(scores: Tensor, kept: int, start: int = 0) -> Tensor:
    """S_high = {k | 0 <= k < r}: the fastest rotations."""
    del start
    return torch.arange(kept).expand(scores.shape[0], kept)


def low(scores: Tensor, kept: int, start: int = 0) -> Tensor:
    """S_low = {k | d_h/2 - r <= k < d_h/2}: the slowest rotations."""
    del start
    heads, pairs = scores.shape
    return torch.arange(pairs - kept, pairs).expand(heads, kept)


def uniform(scores: Tensor, kept: int, start: int = 0) -> Tensor:
    """S_uniform = {start + floor(k * d_h / 2r) | 0 <= k < r}, wrapping past the last pair."""
    heads, pairs = scores.shape
    chosen = (start + torch.arange(kept) * pairs // max(kept, 1)) % pairs
    return chosen.sort().values.expand(heads, kept)


def two_norm(scores: Tensor, kept: int, start: int = 0) -> Tensor:
    """S_2-norm: the r pairs with the largest contribution E|q| x E|k|, for each KV head on its own.

    Equal scores keep the lower (faster) pair, so the choice does not depend on the sort.
    """
    del start
    order = torch.sort(scores, dim=1, descending=True, stable=True).indices
    return order[:, :kept].sort(dim=1).values


SELECT: Mapping[str, Select] = {"2-norm": two_norm, "high": high, "low": low, "uniform": uniform}
