# SPDX-License-Identifier: Apache-2.0
"""How long a healing takes here: from the speed of an earlier one, else from how fast the last job ran."""

from typing import Literal

from pydantic import Field

from app.services.duration import FIXED_SECONDS, params_of, predicted_seconds, rate_here
from app.services.known_models import jobs_of
from app.services.workbench import Workbench
from core.facts import ModelFacts
from core.heal.spec import Healing
from core.spec import Frozen, JobSpec

# in forward passes: one, and a backward pass that costs two
_STEP = 3.0
_SPEED = "healing_tokens_per_second"


class HealingTime(Frozen):
    """`speed_is` says where the speed comes from; the time that follows from it is an estimate."""

    tokens_per_second: float
    speed_is: Literal["measured", "estimated"]
    job: str | None = Field(None, description="the healing of this model whose speed it is")
    seconds: float


def healing_time(workbench: Workbench, spec: JobSpec, facts: ModelFacts) -> HealingTime | None:
    """None before anything was done here, and for a spec that heals nothing."""
    if spec.heal is None:
        return None
    passes = _passes_of_a_step(spec.heal)
    for job in jobs_of(workbench, spec.model):
        speed = job.metrics.get(_SPEED)
        if job.spec.heal is None or not speed:
            continue
        scale = _passes_of_a_step(job.spec.heal) / passes
        is_alike = scale == 1 and job.spec.heal.trainable == spec.heal.trainable
        return _time(spec, speed * scale, "measured" if is_alike else "estimated", job.id)
    rate = rate_here(workbench, params_of(facts) * _all_passes(spec))
    return None if rate is None else _time(spec, rate / (passes * params_of(facts)), "estimated", None)


def seconds_of(workbench: Workbench, spec: JobSpec, facts: ModelFacts) -> float | None:
    """Of a job of any kind; None before the first job was done here."""
    if spec.heal is None:
        return predicted_seconds(workbench, spec, facts)
    found = healing_time(workbench, spec, facts)
    return found.seconds if found else None


def _time(
    spec: JobSpec, speed: float, speed_is: Literal["measured", "estimated"], job: str | None
) -> HealingTime:
    assert spec.heal is not None
    seconds = FIXED_SECONDS + _all_passes(spec) / (speed * _passes_of_a_step(spec.heal))
    return HealingTime(tokens_per_second=speed, speed_is=speed_is, job=job, seconds=seconds)


def _passes_of_a_step(healing: Healing) -> float:
    """Forward passes that one token of training is worth."""
    return _STEP + (1 if healing.runs_teacher else 0) + (1 if healing.checkpoint_activations else 0)


def _all_passes(spec: JobSpec) -> float:
    """Forward passes of a token, in all: training, what the teacher says before it, every measurement."""
    healing = spec.heal
    assert healing is not None
    held_out = healing.held_out * healing.context
    total = healing.steps * healing.step_tokens * _passes_of_a_step(healing)
    total += (min(healing.evaluations, healing.steps) + 1) * held_out
    if not healing.runs_teacher:
        total += healing.steps * healing.step_tokens + held_out
    if spec.evaluation is not None:
        # original and healed
        total += 2 * spec.evaluation.windows * spec.evaluation.context
    return total
