# SPDX-License-Identifier: Apache-2.0
"""rope.select: which rotary pairs of each KV head keep RoPE (MHA2MLA, section 3.1).

Every choice maps (scores, pairs kept, start) to sorted pair indices, shape (n_kv, kept). `scores` is
(n_kv, d_h/2); the choices that do not look at text use only its shape.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.rope.mix import Fold

Select = Callable[[Tensor, int, int], Tensor]


@dataclass(frozen=True)
class Slot:
    """A rotating pair all heads share: component `component` of `fold`, turning at `frequency` rad/token."""

    fold: Fold
    component: int
    frequency: float


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


def logit_damage(scores: Tensor, kept: int, start: int = 0) -> Tensor:
    """The r pairs whose rotation carries the most logit energy (core/rope/pairs.py), which `scores` are."""
    return two_norm(scores, kept, start)


def shared_pairs(folds: list[Fold], choice: str, kept: int, start: int, inv_freq: Tensor) -> list[Slot]:
    """Which components of a mixed basis go on rotating, shared by all heads.

    logit-damage takes the largest damages wherever they are; the component turns at its fold's own frequency.
    high, low and uniform choose frequencies: a fold gives as many of its first components as it has chosen
    ones, and they turn at those (TransMLA: the first principal head, every `collapse`-th frequency).
    """
    if choice == "logit-damage":
        damage = torch.cat([fold.damage for fold in folds])
        order = torch.sort(damage, descending=True, stable=True).indices[:kept]
        where = [(fold, index) for fold in folds for index in range(len(fold.damage))]
        best = [where[int(index)] for index in order]
        return [Slot(fold, index, float(fold.inv_freq[index])) for fold, index in best]
    pairs = SELECT[choice](torch.zeros(1, len(inv_freq)), kept, start)[0].tolist()
    slots = []
    for fold in folds:
        inside = [pair for pair in pairs if fold.first <= pair < fold.last]
        slots += [Slot(fold, index, float(inv_freq[pair])) for index, pair in enumerate(inside)]
    return slots


def chosen_slots(folds: list[Fold], rows: Sequence[Sequence[int]]) -> list[Slot]:
    """Components that somebody chose, by the picture's rows and pairs (see core/rope/split.py).

    Each turns at its fold's own frequency, as with logit-damage, and they come in the same order.
    """
    slots = []
    for row, pairs in enumerate(rows):
        for pair in pairs:
            fold = next(one for one in folds if one.first <= pair < one.last)
            component = row * (fold.last - fold.first) + pair - fold.first
            slots.append(Slot(fold, component, float(fold.inv_freq[component])))
    return sorted(slots, key=lambda slot: -float(slot.fold.damage[slot.component]))


SELECT: Mapping[str, Select] = {
    "2-norm": two_norm,
    "high": high,
    "low": low,
    "uniform": uniform,
    "logit-damage": logit_damage,
}
