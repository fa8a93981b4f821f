# SPDX-License-Identifier: Apache-2.0
"""rope.select: which rotary pairs of each KV head, or of all of them, keep RoPE; see core/rope/choices.py."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.rope.choices import CHOICES, Choice
from core.rope.mix import Fold

Select = Callable[[Tensor, int, int], Tensor]


@dataclass(frozen=True)
class Slot:
    """A rotating pair all heads share: component `component` of `fold`, turning at `frequency` rad/token."""

    fold: Fold
    component: int
    frequency: float


def _of_tensors(choice: Choice) -> Select:
    """The choice on tensors."""

    def select(scores: Tensor, kept: int, start: int = 0) -> Tensor:
        return torch.from_numpy(choice(scores.cpu().double().numpy(), kept, start))

    return select


SELECT: Mapping[str, Select] = {name: _of_tensors(choice) for name, choice in CHOICES.items()}


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
