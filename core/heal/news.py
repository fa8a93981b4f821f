# SPDX-License-Identifier: Apache-2.0
"""What a healing says while it learns: progress with the time left, the curve, and its figures. No torch."""

import time
from typing import Protocol

from core.events import Figure, Sink
from core.heal.curve import Curve
from core.heal.outlook import look_ahead
from core.reporting import Reporter

# the curve is sent again after so many seconds, and after every evaluation
FIGURE_SECONDS = 5.0
# the first step of a process warms up: the time of those behind it says how long all take
_TIMED = 2
# of the machine, not of the weights: a record has none of them
OF_THE_CLOCK = ("healing_tokens_per_second", "healing_seconds_expected")


class Step(Protocol):
    """One finished step; see core/heal/trainer.py."""

    @property
    def step(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def evaluated(self) -> bool: ...
    @property
    def stops(self) -> bool: ...


class HealingNews:
    """Speaks for one run that began at step `first`."""

    def __init__(self, sink: Sink, report: Reporter, steps: int, first: int, target_kl: float = 0.0) -> None:
        self._target_kl = target_kl
        self._sink = sink
        self._report = report
        self._steps = steps
        self._first = first
        self._started = self._shown = time.monotonic()
        self._timed: float | None = None

    def tell(self, done: Step, curve: Curve) -> None:
        """After every step."""
        taken, now = done.step - self._first, time.monotonic()
        if taken == 1:
            self._timed = now
        elif taken == 1 + _TIMED and self._timed is not None:
            self._expect((now - self._timed) / _TIMED, done)
        if done.evaluated or now - self._shown >= FIGURE_SECONDS:
            self._show(curve)
        self._report.step("healing", done.step, self._steps, self._words(done, curve))

    def close(self, curve: Curve) -> None:
        """The figures of the whole run."""
        self._show(curve)
        first, best = curve.held_out[0], curve.best
        last = curve.train[-1]
        metric = self._report.metric
        metric("healing_tokens", last.tokens, "tokens")
        metric("healing_tokens_per_second", last.tokens_per_second, "tokens/s")
        metric("healing_kl_first", first.kl, "nats/token")
        if best is not None:
            metric("healing_kl", best.kl, "nats/token")
            metric("healing_perplexity_ratio", best.perplexity_ratio, "ratio")
            metric("healing_best_tokens", best.tokens, "tokens")
        if curve.train and last.tokens < self._steps * (last.tokens // max(1, self._taken(curve))):
            is_met = best is not None and self._target_kl > 0 and best.kl <= self._target_kl
            why = "the target is met" if is_met else "the held-back windows did not get better any more"
            self._report.log(f"stopped early: {why}")

    def _taken(self, curve: Curve) -> int:
        return sum(point.steps for point in curve.train)

    def _expect(self, seconds: float, done: Step) -> None:
        """How long all of it takes, from the first steps behind the warm-up."""
        whole = seconds * self._steps
        rate = done.tokens / done.step / seconds
        self._report.metric("healing_seconds_expected", whole, "s", "predicted")
        self._report.log(
            f"{_TIMED} steps were timed: {rate:,.0f} tokens/s, so all {self._steps} steps take about "
            f"{_duration(whole)} (predicted), evaluations aside"
        )

    def _show(self, curve: Curve) -> None:
        ahead = look_ahead(curve, self._steps)
        figure = curve.as_figure() | {"steps": self._steps, "outlook": ahead.model_dump() if ahead else None}
        self._sink.emit(Figure(name="healing_curve", data=figure))
        self._shown = time.monotonic()

    def _words(self, done: Step, curve: Curve) -> str:
        last = curve.held_out[-1]
        spent = time.monotonic() - self._started
        left = spent / max(1, done.step - self._first) * (self._steps - done.step)
        return (
            f"{done.tokens:,} tokens, loss {curve.train[-1].loss:.4f}, held-out KL {last.kl:.4f}, perplexity "
            f"x{last.perplexity_ratio:.3f}, {curve.train[-1].tokens_per_second:,.0f} tokens/s, about "
            f"{_duration(left)} left{self._until_target(done, curve, spent)}"
        )

    def _until_target(self, done: Step, curve: Curve, spent: float) -> str:
        """When the target is met if the curve goes on; nothing without one, or where no curve falls."""
        ahead = look_ahead(curve, self._steps) if self._target_kl else None
        needed = ahead and ahead.tokens_to(self._target_kl)
        if not needed:
            return ""
        per_token = spent / max(1, done.step - self._first) * done.step / done.tokens
        left = max(0.0, needed - done.tokens) * per_token
        return f"; KL {self._target_kl:g} at about {needed:,.0f} tokens, in {_duration(left)} (predicted)"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
