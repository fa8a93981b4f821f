# SPDX-License-Identifier: Apache-2.0
"""The learning rate of a step: a pure function of its number. No torch."""

import math

from core.heal.spec import Healing


def learning_rate(step: int, steps: int, healing: Healing) -> float:
    """The rate of step `step` (from 0) of `steps`.

    It rises linearly over the warm-up. Then cosine falls to 0; 1-sqrt stays and falls over the last share
    `decay` as lr (1 - sqrt(t)), t from 0 to 1 (MHA2MLA, section 4).
    """
    rate = healing.learning_rate
    rising = round(healing.warmup * steps)
    if step < rising:
        return rate * (step + 1) / (rising + 1)
    if healing.schedule == "cosine":
        return rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
    falling = max(1, min(steps - rising, round(healing.decay * steps)))
    passed = max(0, step - (steps - falling))
    return rate * (1 - math.sqrt(passed / falling))
