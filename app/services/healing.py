# SPDX-License-Identifier: Apache-2.0
"""The healing of a finished job: the request it makes, and what that would take."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import Field

from app.services.errors import NotFoundError
from app.services.healing_source import job_healed, with_source
from app.services.healing_time import HealingTime, healing_time
from app.services.requests import find_job, plan_for, read_request
from app.services.roots import JOB
from app.services.text_names import friendly
from app.services.workbench import Workbench
from core.errors import WorkbenchError
from core.facts import Problem
from core.spec import Frozen, JobSpec
from core.store.views import JobView, State

T = TypeVar("T")


class HealingEstimate(Frozen):
    """It can be submitted when `problems` is empty."""

    spec: JobSpec | None
    time: HealingTime | None = Field(None, description="null before anything was done here")
    problems: tuple[Problem, ...] = ()


def healable(workbench: Workbench, job_id: str) -> JobView:
    """The job whose result may be healed; raises NotFoundError when it made none."""
    job = find_job(workbench, job_id)
    if job.state is not State.DONE or not job.spec.makes_model:
        raise NotFoundError(
            f"job {job_id} has no converted model to heal",
            hint="choose a conversion that is done",
            field="heal.source",
        )
    return job


def asked_before(workbench: Workbench, job_id: str) -> tuple[str, JobSpec]:
    """The job that healing `job_id` was for, and what was asked of it; raises NotFoundError for others."""
    job = find_job(workbench, job_id)
    source = job_healed(workbench.settings, job.spec)
    if source is None:
        raise NotFoundError(
            f"job {job_id} did not heal what a job here made",
            hint="heal a finished conversion from its page",
            field="heal.source",
        )
    return source, friendly(workbench.settings, job.spec)


def healing_request(
    job: JobView, asked: Mapping[str, Any], evaluation: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Fields of the JobSpec that heals the result of `job`: as it was made, and how it is to learn."""
    said = job.spec.model_dump(mode="json", exclude={"heal", "evaluation"})
    healing = {"source": f"{JOB}{job.id}", **asked}
    return said | {"kind": "heal", "heal": healing, "evaluation": evaluation and dict(evaluation)}


def estimate_healing(workbench: Workbench, data: Mapping[str, Any]) -> HealingEstimate:
    """Never raises for what a user typed: what is wrong is in `problems`, beside its field."""
    problems: list[Problem] = []
    spec = _tried(lambda: with_source(workbench.settings, read_request(data)), problems)
    if spec is None:
        return HealingEstimate(spec=None, problems=tuple(problems))
    plan = _tried(lambda: plan_for(workbench, spec), problems)
    problems += plan.problems if plan else ()
    _tried(lambda: workbench.texts.check(spec, workbench.settings), problems)
    if problems:
        return HealingEstimate(spec=spec, problems=tuple(problems))
    facts = workbench.facts.read(spec.model, spec.revision, workbench.settings)
    return HealingEstimate(spec=spec, time=healing_time(workbench, spec, facts))


def _tried(read: Callable[[], T], problems: list[Problem]) -> T | None:
    """What `read` gives, or None with the reason added to `problems`."""
    try:
        return read()
    except WorkbenchError as error:
        problems.append(Problem(message=error.message, hint=error.hint, field=error.field or "heal"))
        return None
