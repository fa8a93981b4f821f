# SPDX-License-Identifier: Apache-2.0
"""The student on the windows that are held back."""

import math
from collections.abc import Sequence

import torch

from core.heal.curve import HeldOutPoint
from core.heal.feed import Lesson
from core.heal.student import Student


@torch.no_grad()
def held_out_point(student: Student, lessons: Sequence[Lesson], tokens: int) -> HeldOutPoint:
    """Divergence and perplexity ratio after `tokens` of training."""
    kl = text = base = 0.0
    windows = 0
    for lesson in lessons:
        found, count = student(lesson.ids, lesson.targets), len(lesson.ids)
        kl += float(found.kl) * count
        text += float(found.text) * count
        base += float(lesson.targets.loss.mean()) * count
        windows += count
    # a model that is broken beyond float64 is the worst there is, no error
    ratio = math.exp(min((text - base) / windows, 700.0))
    return HeldOutPoint(tokens=tokens, kl=kl / windows, perplexity_ratio=ratio)
