# SPDX-License-Identifier: Apache-2.0
"""linear_allocate: spread one budget of weights over layers and over queries, W_O and MLP. numpy only."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from core.linear.shapes import LinearPlan
from core.recipe import Recipe

Array = NDArray[np.float64]
# (layer, part) -> what every rank from 0 on is predicted to lose, nats per token
Losses = Mapping[tuple[int, str], Array]
# no linear layer gets less than this share of what it gets when all get the same: the second-order loss is a
# local one, and a layer starved by it breaks everything behind it
_LEAST = 0.5
_STEPS = 100
# how much a linear layer's own loss at uniform ranks is divided out of what a number saves: 0 believes the
# prediction, 1 believes that all layers lose the same
TEMPERS = {"loss-aware": 0.0, "tempered": 0.5}


def candidates(
    uniform: Sequence[Sequence[LinearPlan]], losses: Losses, recipe: Recipe
) -> dict[str, list[tuple[LinearPlan, ...]]]:
    """Allocations by name, none larger than `uniform`, the linear layers when all keep the same share."""
    found = {"uniform": [tuple(layer) for layer in uniform]}
    if recipe.linear_allocate == "uniform":
        return found
    room = sum(one.numbers for layer in uniform for one in layer)
    for name, temper in TEMPERS.items():
        options = [
            [_Options(one, losses[index, one.part], recipe, temper) for one in layer]
            for index, layer in enumerate(uniform)
        ]
        _spend([one for layer in options for one in layer], room)
        found[name] = [tuple(one.plan for one in layer) for layer in options]
    return found


def predicted(layers: Sequence[Sequence[LinearPlan]], losses: Losses) -> float:
    """What the linear layers lose together to second order, before it is scaled to a measurement."""
    return sum(
        float(losses[index, one.part][one.rank]) if one.rank else 0.0
        for index, layer in enumerate(layers)
        for one in layer
    )


class _Options:
    """What one linear layer can be: every rank that saves numbers, or whole."""

    def __init__(self, uniform: LinearPlan, losses: Array, recipe: Recipe, temper: float) -> None:
        self._uniform = uniform
        self._recipe = recipe
        ranks = np.arange(1, len(losses))
        numbers = np.array([uniform.at(int(rank), recipe).numbers for rank in ranks], dtype=np.float64)
        useful = (numbers < uniform.whole) & (numbers >= _LEAST * uniform.numbers)
        self._ranks = np.append(ranks[useful], 0)
        self._numbers = np.append(numbers[useful], float(uniform.whole))
        at_uniform = float(losses[uniform.rank]) if uniform.rank else 0.0
        scale = max(at_uniform, float(losses[0]) * 1e-6, float(np.finfo(np.float64).tiny)) ** -temper
        self._losses = np.append(losses[1:][useful], 0.0) * scale

        self._chosen = 0

    @property
    def numbers(self) -> float:
        """Numbers of the option that was chosen."""
        return float(self._numbers[self._chosen])

    @property
    def plan(self) -> LinearPlan:
        """The option that was chosen."""
        return self._uniform.at(int(self._ranks[self._chosen]), self._recipe)

    def choose(self, price: float) -> None:
        """Take the option that is best at `price` nats a number."""
        self._chosen = int(np.argmin(self._losses + price * self._numbers))

    def widest(self, room: float) -> tuple[float, int]:
        """(nats saved a number, option) of the best larger option that takes no more than `room` on top."""
        more = self._numbers - self.numbers
        fits = (more > 0) & (more <= room)
        if not fits.any():
            return 0.0, self._chosen
        saved = np.where(fits, self._losses[self._chosen] - self._losses, -1.0) / np.where(fits, more, 1.0)
        best = int(np.argmax(saved))
        return float(saved[best]), best

    def take(self, option: int) -> None:
        """Choose by index, as `widest` gave it."""
        self._chosen = option


def _spend(options: Sequence[_Options], room: float) -> None:
    """Choose for all: the lowest price at which everything fits, then what is left goes where it saves most.

    One price alone leaves room: with a block identity the last ranks before the whole are nearly free, so
    the best option jumps there from far below.
    """
    low, high = -80.0, 20.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        for one in options:
            one.choose(float(np.exp(middle)))
        low, high = (middle, high) if sum(one.numbers for one in options) > room else (low, middle)
    for one in options:
        one.choose(float(np.exp(high)))
    while True:
        left = room - sum(one.numbers for one in options)
        offers = [(*one.widest(left), one) for one in options]
        saved, option, best = max(offers, key=lambda offer: offer[0])
        if saved <= 0:
            return
        best.take(option)
