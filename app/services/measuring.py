# SPDX-License-Identifier: Apache-2.0
"""A further evaluation of a finished job: the request it makes, and what that would take."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import Field

from app.services.compare import comparable_jobs
from app.services.duration import predicted_seconds
from app.services.errors import NotFoundError
from app.services.evaluations import check_evaluation
from app.services.healing_source import job_healed
from app.services.requests import find_job, read_request
from app.services.roots import JOB
from app.services.text_names import friendly
from app.services.workbench import Workbench
from core.errors import WorkbenchError
from core.facts import Problem
from core.further.spec import MOST, Measurements
from core.spec import Frozen, JobSpec
from core.store.views import JobView, State

T = TypeVar("T")


class EvaluationEstimate(Frozen):
    """It can be submitted when `problems` is empty."""

    spec: JobSpec | None
    seconds: float | None = Field(None, description="null before anything was done here")
    problems: tuple[Problem, ...] = ()


def measurable(workbench: Workbench, job_id: str) -> JobView:
    """The job whose result may be measured; raises NotFoundError when it made none."""
    job = find_job(workbench, job_id)
    if job.state is not State.DONE or not job.spec.makes_model:
        raise NotFoundError(
            f"job {job_id} has no converted model to measure",
            hint="choose a conversion or a healing that is done",
            field="evaluate.conversions",
        )
    return job


def measured_before(workbench: Workbench, job_id: str) -> tuple[str, JobSpec]:
    """A conversion that evaluation `job_id` measured, and what was asked of it; NotFoundError for others."""
    job = find_job(workbench, job_id)
    named = job.spec.evaluate.conversions if job.spec.evaluate else ()
    ours = [one.removeprefix(JOB) for one in named if one.startswith(JOB)]
    if not ours:
        raise NotFoundError(
            f"job {job_id} did not measure what a job here made",
            hint="evaluate a finished conversion from its page",
            field="evaluate.conversions",
        )
    return ours[0], friendly(workbench.settings, job.spec)


def beside(workbench: Workbench, job: JobView) -> list[JobView]:
    """What can be measured on the same things: results of the same original, `job` first."""
    others = [
        one
        for one in comparable_jobs(workbench)
        if one.id != job.id and (one.spec.model, one.spec.revision) == (job.spec.model, job.spec.revision)
    ]
    return [job, *others]


def usual_models(workbench: Workbench, job: JobView) -> list[str]:
    """The job's own result; of a healing also what it was before, while that is there."""
    known = {one.id for one in beside(workbench, job)}
    healed = job_healed(workbench.settings, job.spec)
    return [f"{JOB}{one}" for one in (healed, job.id) if one in known][:MOST]


def evaluation_request(job: JobView, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the JobSpec that measures what `asked` names of the original of `job`."""
    spec = job.spec
    about = {"model": spec.model, "revision": spec.revision, "device": spec.device}
    return {"kind": "evaluate", **about, "evaluate": dict(asked)}


def estimate_evaluation(workbench: Workbench, data: Mapping[str, Any]) -> EvaluationEstimate:
    """Never raises for what a user typed: what is wrong is in `problems`, beside its field."""
    problems: list[Problem] = []
    spec = _tried(lambda: read_request(data), problems)
    if spec is None:
        return EvaluationEstimate(spec=None, problems=tuple(problems))
    _tried(lambda: check_evaluation(workbench, spec), problems)
    if problems:
        return EvaluationEstimate(spec=spec, problems=tuple(problems))
    facts = workbench.facts.read(spec.model, spec.revision, workbench.settings)
    return EvaluationEstimate(spec=spec, seconds=predicted_seconds(workbench, spec, facts))


def tokens_read(asked: Measurements) -> int:
    """Tokens that all models together read, lm-eval's left out: nobody knows them before."""
    each = sum(asked.contexts) * asked.windows * len(asked.texts)
    texts = each * (2 * len(asked.conversions) or 1)
    asks = len(asked.retrieval) * asked.samples * sum(asked.retrieval_contexts)
    return texts + asks * (1 + len(asked.conversions))


def _tried(read: Callable[[], T], problems: list[Problem]) -> T | None:
    """What `read` gives, or None with the reason added to `problems`."""
    try:
        return read()
    except WorkbenchError as error:
        problems.append(Problem(message=error.message, hint=error.hint, field=error.field or "evaluate"))
        return None
