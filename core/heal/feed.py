# SPDX-License-Identifier: Apache-2.0
"""What the student is given: windows, and what the teacher says of them, from its cache or from itself."""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.heal.cache import TeacherCache
from core.heal.spec import Healing
from core.heal.targets import Targets
from core.heal.teacher import Teacher


@dataclass(frozen=True)
class Lesson:
    """Windows (n, t); seen: the teacher's hidden states and attention outputs, where the loss needs them."""

    ids: Tensor
    targets: Targets
    seen: list[list[Tensor]] | None


class Feed:
    """Lessons on the device."""

    def __init__(
        self, healing: Healing, device: torch.device, cache: TeacherCache | None, teacher: Teacher | None
    ) -> None:
        """Without a cache the teacher is asked each time; without a teacher the cache has all windows."""
        self._healing = healing
        self._device = device
        self._cache = cache
        self._teacher = teacher

    def lesson(self, windows: Tensor) -> Lesson:
        """What is learned of `windows` (n, context)."""
        seen = None
        if self._cache is None and self._teacher is not None:
            targets = self._teacher.targets(windows, self._healing.top_k, self._healing.temperature)
        elif self._cache is not None:
            targets = self._cache.read(windows)
            if self._teacher is not None:
                # the stored numbers are used, so that both ways learn the same
                self._teacher.run(windows)
        if self._teacher is not None and self._teacher.taps is not None:
            seen = self._teacher.taps.take()
        return Lesson(windows.to(self._device), targets.to(self._device), seen)
