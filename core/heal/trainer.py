# SPDX-License-Identifier: Apache-2.0
"""The training loop: steps, evaluations, checkpoints. Resumed at step n it does what it would have done."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)

from core.errors import Cancelled, SpecError
from core.events import Cancel
from core.heal.checkpoint import Checkpoints
from core.heal.curve import Curve, TrainPoint
from core.heal.evaluation import held_out_point
from core.heal.feed import Feed, Lesson
from core.heal.schedule import learning_rate
from core.heal.spec import Healing
from core.heal.student import Student
from core.heal.trainable import is_adapter
from core.heal.windows import Windows

# gathered whole on every process: what is stored does not depend on how the model was distributed
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True, strict=False)

# what starts at 0 has no size of its own
_SMALLEST = 0.02


@dataclass(frozen=True)
class Done:
    """After one step: `evaluated` when the held-back windows were looked at; `stops` when it is the last."""

    step: int
    tokens: int
    evaluated: bool
    stops: bool


class Trainer:
    """One student, its optimiser and its curve."""

    def __init__(
        self,
        student: Student,
        healing: Healing,
        steps: int,
        windows: Windows,
        feed: Feed,
        checkpoints: Checkpoints,
        accelerator: Accelerator,
    ) -> None:
        self._healing = healing
        self._steps = steps
        self._windows = windows
        self._feed = feed
        self._checkpoints = checkpoints
        self._accelerator = accelerator
        found = {name: one for name, one in student.named_parameters() if one.requires_grad}
        self._learning = set(found)
        groups = [{"params": [one], "size": typical_size(name, one)} for name, one in found.items()]
        optimizer = torch.optim.AdamW(
            groups, lr=healing.learning_rate, weight_decay=healing.weight_decay, betas=(0.9, 0.95)
        )
        self._student, self._optimizer = accelerator.prepare(student, optimizer)
        self._student.eval()  # nothing is dropped at random: the student is to give what the teacher gives
        self.curve = Curve(steps=steps)
        self.step = 0
        self._misses = 0
        self._held_out: list[Lesson] = []
        self._saved = time.monotonic()
        self._restore()

    @property
    def step_tokens(self) -> int:
        """Tokens of one step, over all processes."""
        return self._healing.step_tokens * int(self._accelerator.num_processes)

    @property
    def has_stopped(self) -> bool:
        """Whether there is nothing left to do."""
        patience = self._healing.patience
        has_enough = bool(patience and self._misses >= patience) or self.has_met_target
        return self.step >= self._steps or has_enough

    @property
    def has_met_target(self) -> bool:
        """Whether the best weights are as good as was asked for."""
        best, target = self.curve.best, self._healing.target_kl
        # rounding may make a divergence of nothing 0, or less: no target is not met by it
        return best is not None and target > 0 and best.kl <= target

    def run(self, cancel: Cancel) -> Iterator[Done]:
        """Take the steps that are left. When cancelled, the state is stored before it ends.

        Raises SpecError when the target is met without any.
        """
        if self.step == 0 and not self.curve.held_out:
            self._evaluate()
        if self.step == 0 and self.has_met_target:
            raise SpecError(
                f"held-out KL is {self.curve.held_out[0].kl:.4g} before the first step: the target is met",
                hint="ask for a lower target_kl, or for none",
                field="heal.target_kl",
            )
        try:
            while not self.has_stopped:
                started = time.monotonic()
                loss = self._take_step()
                self.step += 1
                self._note(loss, time.monotonic() - started)
                is_due = self._is_evaluated()
                if is_due:
                    self._evaluate()
                self._save_if_due()
                yield Done(self.step, self.step * self.step_tokens, is_due, self.has_stopped)
                cancel.check()
        except Cancelled:
            self._save()
            raise
        self._save()

    def best_weights(self) -> dict[str, Tensor]:
        """Of the lowest held-out divergence, by the names of the student's parameters."""
        found = self._checkpoints.best()
        if found is None:
            raise RuntimeError("no evaluation was finished")
        return found

    def _take_step(self) -> float:
        """One step of the optimiser; returns its loss, the mean over all windows."""
        rate = learning_rate(self.step, self._steps, self._healing)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["size"]
        parts, total = list(self._parts()), 0.0
        for number, windows in enumerate(parts, start=1):
            lesson = self._feed.lesson(windows)
            if number < len(parts):
                with self._accelerator.no_sync(self._student):
                    total += self._backward(lesson, len(parts))
            else:
                total += self._backward(lesson, len(parts))
        if self._healing.clip:
            self._accelerator.clip_grad_norm_(self._student.parameters(), self._healing.clip)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return total

    def _backward(self, lesson: Lesson, parts: int) -> float:
        scores = self._student(lesson.ids, lesson.targets, lesson.seen)
        self._accelerator.backward(scores.loss / parts)
        mean: Any = self._accelerator.reduce(scores.loss.detach(), "mean")
        return float(mean) / parts

    def _parts(self) -> Iterator[Tensor]:
        """This process's windows of the step, a forward pass at a time."""
        processes, own = self._accelerator.num_processes, self._healing.windows
        size = own * self._healing.accumulate * processes
        windows = self._windows.step(self.step, size)
        for part in range(self._healing.accumulate):
            first = (part * processes + self._accelerator.process_index) * own
            yield windows[first : first + own]

    def _note(self, loss: float, seconds: float) -> None:
        rate = learning_rate(self.step - 1, self._steps, self._healing)
        self.curve.add(
            TrainPoint(
                tokens=self.step * self.step_tokens,
                loss=loss,
                learning_rate=rate,
                tokens_per_second=self.step_tokens / max(seconds, 1e-9),
            )
        )

    def _is_evaluated(self) -> bool:
        """After the last step, and so often in between as was asked for."""
        every = self._steps / self._healing.evaluations
        passed = math.floor(self.step / every + 1e-9)
        return self.step == self._steps or passed > math.floor((self.step - 1) / every + 1e-9)

    def _evaluate(self) -> None:
        if not self._held_out:
            held = self._windows.held_out.split(self._healing.windows)
            self._held_out = [self._feed.lesson(part) for part in held]
        best = self.curve.best
        found = held_out_point(self._student, self._held_out, self.step * self.step_tokens)
        self.curve.held_out.append(found)
        if best is None or found.kl < best.kl:
            self._misses = 0
            weights = self._states()[0]
            if self._accelerator.is_main_process:
                self._checkpoints.save_best(weights)
        else:
            self._misses += 1

    def _save_if_due(self) -> None:
        if time.monotonic() - self._saved >= self._healing.checkpoint_seconds:
            self._save()

    def _save(self) -> None:
        weights, optimizer = self._states()
        state = {
            "step": self.step,
            "misses": self._misses,
            "curve": self.curve.as_state(),
            "weights": weights,
            "optimizer": optimizer,
        }
        if self._accelerator.is_main_process:
            self._checkpoints.save_last(state)
        self._saved = time.monotonic()

    def _states(self) -> tuple[dict[str, Any], dict[str, Any]]:
        inner: Any = getattr(self._optimizer, "optimizer", self._optimizer)
        weights, optimizer = get_state_dict(self._student, inner, options=_WHOLE)
        # buffers and tied tables come along, and nothing of them changes
        return {name: one for name, one in weights.items() if name in self._learning}, optimizer

    def _restore(self) -> None:
        state = self._checkpoints.last()
        if state is None:
            return
        inner: Any = getattr(self._optimizer, "optimizer", self._optimizer)
        set_state_dict(
            self._student,
            inner,
            model_state_dict=state["weights"],
            optim_state_dict=state["optimizer"],
            options=_WHOLE,
        )
        self.step, self._misses = state["step"], state["misses"]
        self.curve = Curve.from_state(state["curve"], self._steps)


def typical_size(name: str, weight: Tensor) -> float:
    """Root mean square of a weight, which its steps are a share of; at least that of what starts at 0.

    An adapter starts without a size: its steps are those of the rate itself.
    """
    if is_adapter(name):
        return 1.0
    return max(float(weight.detach().square().mean().sqrt()), _SMALLEST)
