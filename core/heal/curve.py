# SPDX-License-Identifier: Apache-2.0
"""The curves of a healing: the page draws them, the record keeps them, a resumed run goes on with them."""

import math
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from core.recipe import Frozen

# points of the training loss that are kept; beyond them neighbours are averaged
MOST_POINTS = 400


class TrainPoint(Frozen):
    """Mean over some steps, up to `tokens` trained on."""

    tokens: int
    loss: float
    learning_rate: float
    tokens_per_second: float = Field(description="of training, evaluations aside")
    steps: int = 1


class HeldOutPoint(Frozen):
    """The held-back windows after `tokens` of training; 0 is the model as it came."""

    tokens: int
    kl: float = Field(description="KL(teacher || student) over the stored classes, nats per token")
    perplexity_ratio: float = Field(description="student's over teacher's")


class Curve:
    """Both curves, growing."""

    def __init__(
        self, train: Sequence[TrainPoint] = (), held_out: Sequence[HeldOutPoint] = (), steps: int = 1
    ) -> None:
        self.train = list(train)
        self.held_out = list(held_out)
        self._width = max(1, math.ceil(steps / MOST_POINTS))

    def add(self, point: TrainPoint) -> None:
        """One more step; it joins the last point until that has as many as any."""
        if self.train and self.train[-1].steps < self._width:
            last = self.train.pop()
            point = _mean(last, point)
        self.train.append(point)

    @property
    def best(self) -> HeldOutPoint | None:
        """The first of the lowest held-out divergences."""
        return min(self.held_out, key=lambda point: point.kl, default=None)

    def as_figure(self) -> dict[str, object]:
        """The columns of the figure `healing_curve`."""
        return {
            "train": _columns(self.train, ("tokens", "loss", "learning_rate", "tokens_per_second")),
            "held_out": _columns(self.held_out, ("tokens", "kl", "perplexity_ratio")),
        }

    def as_record(self) -> dict[str, object]:
        """The figure without what depends on the machine."""
        return {
            "train": _columns(self.train, ("tokens", "loss", "learning_rate")),
            "held_out": _columns(self.held_out, ("tokens", "kl", "perplexity_ratio")),
        }

    def as_state(self) -> dict[str, Any]:
        """What `from_state` makes the same curve of."""
        return {
            "train": [one.model_dump() for one in self.train],
            "held_out": [one.model_dump() for one in self.held_out],
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], steps: int) -> "Curve":
        return cls(
            [TrainPoint(**one) for one in state["train"]],
            [HeldOutPoint(**one) for one in state["held_out"]],
            steps,
        )


def _mean(last: TrainPoint, new: TrainPoint) -> TrainPoint:
    steps = last.steps + new.steps
    return TrainPoint(
        tokens=new.tokens,
        loss=(last.loss * last.steps + new.loss * new.steps) / steps,
        learning_rate=new.learning_rate,
        tokens_per_second=new.tokens_per_second,
        steps=steps,
    )


def _columns(points: Sequence[Frozen], names: Sequence[str]) -> dict[str, list[float]]:
    return {name: [getattr(point, name) for point in points] for name in names}
