# SPDX-License-Identifier: Apache-2.0
"""What a conversion says while it runs: stages, steps, figures, and the metrics that its record keeps."""

from collections.abc import Iterable
from typing import Any

from core.decode_cost import decode_flops
from core.events import Cancel, Figure, Log, Metric, Progress, Sink, StageStarted
from core.facts import ModelFacts
from core.pair_scores import meaning_of_scores
from core.planning import Plan
from core.recipe import Recipe


class Reporter:
    """Speaks to one sink, and gives way where somebody cancels: at every stage and after every step."""

    def __init__(self, sink: Sink, cancel: Cancel) -> None:
        self._sink = sink
        self._cancel = cancel
        self.metrics: dict[str, float] = {}

    def stage(self, stage: Any, total: int, finished: int = 0) -> None:
        """A stage of `total` steps begins, of which an earlier run took `finished`."""
        self._cancel.check()
        self._sink.emit(StageStarted(stage=stage, total=total, finished=finished))

    def step(self, stage: Any, done: int, total: int, message: str) -> None:
        """`done` of the stage's steps are taken."""
        self._sink.emit(Progress(stage=stage, done=done, total=total, message=message))
        self._cancel.check()

    def count(self, stage: Any, steps: Iterable[str], done: int, total: int) -> int:
        """Take `steps`, each a line for a human, behind `done` others; returns how many are taken then."""
        for message in steps:
            done += 1
            self.step(stage, done, total, message)
        return done

    def metric(self, name: str, value: float, unit: str = "", source: Any = "measured") -> None:
        """A figure of the result, with where it comes from."""
        self.metrics[name] = float(value)
        self._sink.emit(Metric(name=name, value=float(value), unit=unit, source=source))

    def plan(self, plan: Plan, facts: ModelFacts, context: int) -> None:
        """What the plan says of sizes; with a budget of weights of the linear layers, and of decoding, too.

        Decoding is that of one token that looks at `context` cached ones.
        """
        kv_bytes = plan.kv_bytes_per_token_before, plan.kv_bytes_per_token_after
        for name, value in zip(("before", "formula"), kv_bytes, strict=True):
            self.metric(f"kv_bytes_per_token_{name}", value, "bytes/token", "calculated")
        numbers = {"parameters_before": plan.parameters_before, "parameters_after": plan.parameters_after}
        if plan.linears_before:
            numbers |= {
                "linear_parameters_before": plan.linears_before,
                "linear_parameters_after": plan.linears_after,
            }
        for name, value in numbers.items():
            self.metric(name, value, "numbers", "calculated")
        if plan.linears_before:
            before, after = decode_flops(facts, plan, context)
            self.metric("decode_flops_before", before, "FLOP/token", "calculated")
            self.metric("decode_flops_after", after, "FLOP/token", "calculated")
            self.metric("decode_flops_context", context, "tokens", "calculated")

    def images(self, count: int, tokens: int) -> None:
        """What calibration sees beside text; nothing where there is text alone."""
        if count:
            self.metric("calibration_images", count, "images", "calculated")
            self.metric("calibration_image_tokens", tokens, "tokens", "calculated")

    def log(self, message: str, level: Any = "info") -> None:
        """A line for a human."""
        self._sink.emit(Log(message=message, level=level))

    def layers(self, rows: list[dict[str, Any]], inv_freq: list[float], recipe: Recipe) -> None:
        """The plots of the layers; of rotary pairs only where the model has some (inv_freq)."""
        if inv_freq:
            contribution = {
                "scores": [row["scores"] for row in rows],
                "kept": [row["kept"] for row in rows],
                "inv_freq": inv_freq,
                "meaning": meaning_of_scores(recipe),
            }
            self._sink.emit(Figure(name="rope_contribution", data=contribution))
        table = [{key: value for key, value in row.items() if key not in ("scores", "kept")} for row in rows]
        self._sink.emit(Figure(name="layers", data={"rows": table}))
