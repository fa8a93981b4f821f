# SPDX-License-Identifier: Apache-2.0
"""Sweeps: several budgets and presets of one model, with one calibration that all of them read.

A sweep is nothing but jobs with the same sweep_id. The first one makes the model's profile, unless it has
one; the others wait for that and find the statistics there. They then run on every worker there is.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, ValidationError, field_validator

from app.services.disk import check_disk
from app.services.duration import is_profiled, predicted_seconds
from app.services.errors import NotFoundError
from app.services.profile_jobs import profile_job, profile_seconds
from app.services.queue import expected
from app.services.requests import as_stored, plan_for, submit_spec
from app.services.workbench import Workbench
from core.errors import SpecError, StateError
from core.facts import ModelFacts, Problem
from core.foresight import foresee
from core.presets import DEFAULT_PRESET, PRESETS, spec_from_preset
from core.profiles import Prediction, spec_for_profile
from core.spec import Calibration, Evaluation, Frozen, JobSpec, parse_spec
from core.store import new_id
from core.store.views import FINAL, JobView, Lineage, State

MOST_JOBS = 64


class SweepRequest(Frozen):
    """Every preset at every budget."""

    model: str = Field("demo", min_length=1)
    revision: str | None = None
    presets: tuple[str, ...] = Field((DEFAULT_PRESET,), description=f"names of presets: {', '.join(PRESETS)}")
    keeps: tuple[float, ...] = Field((0.125, 0.25, 0.3125, 0.5), description="fractions of the KV cache")
    calibration: Calibration = Calibration()
    evaluation: Evaluation | None = Evaluation()

    @field_validator("presets", "keeps")
    @classmethod
    def _some_and_each_once(cls, value: tuple[str | float, ...]) -> tuple[str | float, ...]:
        if not value:
            raise SpecError("a sweep needs a preset and a budget", hint="choose at least one", field="keeps")
        return tuple(dict.fromkeys(value))


class SweepRow(Frozen):
    """One job of a sweep before it exists."""

    spec: JobSpec
    kv_bytes_per_token: int
    factor: float = Field(description="how many times smaller the cache gets")
    prediction: Prediction | None = Field(description="KL to the original, when the model has a profile")
    seconds: float | None = Field(description="estimated time of the job")
    problem: Problem | None = Field(description="what stands in the way of this one")


class SweepPreview(Frozen):
    """What a sweep would do."""

    rows: tuple[SweepRow, ...]
    makes_profile: bool = Field(description="a first job calibrates for all the others")
    profile_seconds: float | None
    seconds: float | None = Field(description="of the whole, over the workers there are; null when unknown")


class SweepView(Frozen):
    """A sweep as it stands."""

    id: str
    jobs: tuple[JobView, ...] = Field(description="in the order they were submitted")
    done: int
    ended: int
    ends_in: float | None = Field(description="estimated seconds until the last one has ended")


def parse_request(data: Mapping[str, Any]) -> SweepRequest:
    """From what a form says; raises SpecError naming the field."""
    try:
        return SweepRequest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise SpecError(f"{field}: {first['msg']}", hint="see the fields of a sweep", field=field) from error


def specs_of(request: SweepRequest) -> list[JobSpec]:
    """The conversions, preset by preset, from the smallest cache to the largest; raises SpecError."""
    about = {"model": request.model, "revision": request.revision}
    parts = {
        "calibration": request.calibration.model_dump(),
        "evaluation": request.evaluation.model_dump() if request.evaluation else None,
    }
    specs = [
        spec_from_preset(preset, **about, **parts, keep=keep)
        for preset in request.presets
        for keep in sorted(request.keeps)
    ]
    if len(specs) > MOST_JOBS:
        raise SpecError(
            f"{len(specs)} jobs are too many for one sweep",
            hint=f"choose fewer budgets or presets, {MOST_JOBS} jobs at most",
            field="keeps",
        )
    return specs


def preview(workbench: Workbench, request: SweepRequest) -> SweepPreview:
    """Bytes, loss and time of every job; what is wrong with one is said in its row. Raises for the whole."""
    facts = workbench.facts.read(request.model, request.revision, workbench.settings)
    specs = specs_of(request)
    rows = tuple(_row(workbench, spec, facts) for spec in specs)
    makes = _needs_profile(workbench, specs, facts)
    first = profile_seconds(workbench, specs[0], facts) if makes else 0.0
    known = [row.seconds for row in rows if row.seconds is not None]
    is_known = first is not None and len(known) == len(rows)
    places = min(max(1, workbench.store.slots()), len(rows))
    return SweepPreview(
        rows=rows,
        makes_profile=makes,
        profile_seconds=first if makes else None,
        seconds=(first or 0.0) + sum(known) / places if is_known else None,
    )


def submit_sweep(workbench: Workbench, request: SweepRequest, owner: str = "") -> SweepView:
    """Queue every job, or none: raises WorkbenchError for the first that cannot work."""
    specs = specs_of(request)
    for spec in specs:
        plan = plan_for(workbench, spec)
        plan.raise_if_blocked()
        workbench.texts.check(spec, workbench.settings)
        check_disk(workbench, plan, copies=len(specs))
    sweep_id = new_id()
    after = _leader(workbench, specs, sweep_id, owner)
    for spec in specs:
        submit_spec(workbench, spec, owner, Lineage(sweep_id=sweep_id, after_id=after))
    return find_sweep(workbench, sweep_id)


def find_sweep(workbench: Workbench, sweep_id: str) -> SweepView:
    """The sweep; raises NotFoundError when no job belongs to it."""
    jobs = workbench.recent.get(("sweep", sweep_id), lambda: workbench.store.sweep(sweep_id))
    if not jobs:
        raise NotFoundError(f"there is no sweep '{sweep_id}'", hint="see the list of jobs", field="sweep_id")
    ended = sum(job.state in FINAL for job in jobs)
    return SweepView(
        id=sweep_id,
        jobs=tuple(jobs),
        done=sum(job.state is State.DONE for job in jobs),
        ended=ended,
        ends_in=_ends_in(workbench, [job for job in jobs if job.state not in FINAL]),
    )


def cancel_sweep(workbench: Workbench, sweep_id: str) -> SweepView:
    """Cancel what has not ended; finished jobs stay."""
    # last first: those that wait would start when the first one has ended
    for job in reversed(find_sweep(workbench, sweep_id).jobs):
        if job.state not in FINAL:
            with contextlib.suppress(StateError):  # it ended meanwhile
                workbench.store.request_cancel(job.id)
    workbench.recent.forget()
    return find_sweep(workbench, sweep_id)


def _row(workbench: Workbench, spec: JobSpec, facts: ModelFacts) -> SweepRow:
    plan = plan_for(workbench, spec)
    problem = plan.problems[0] if plan.problems else None
    profile = workbench.profiles.newest(workbench.settings.home, facts.name)
    loss = None if problem else foresee(spec, facts, profile).prediction
    return SweepRow(
        spec=spec,
        kv_bytes_per_token=plan.kv_bytes_per_token_after,
        factor=plan.factor,
        prediction=loss,
        # each of them reads what the first job has calibrated
        seconds=None if problem else predicted_seconds(workbench, spec, facts, calibrates=False),
        problem=problem,
    )


def _needs_profile(workbench: Workbench, specs: Sequence[JobSpec], facts: ModelFacts) -> bool:
    """A profile pays as soon as two jobs read it; one that is there already serves."""
    return len(specs) > 1 and not is_profiled(workbench, spec_for_profile(specs[0]), facts)


def _leader(workbench: Workbench, specs: Sequence[JobSpec], sweep_id: str, owner: str) -> str | None:
    """The job whose statistics all others read: one under way, or a new one; None when they are there."""
    facts = workbench.facts.read(specs[0].model, specs[0].revision, workbench.settings)
    if not _needs_profile(workbench, specs, facts):
        return None
    about = specs[0].model_dump(include={"model", "revision", "calibration"})
    asked = parse_spec({"kind": "profile"} | about)
    under_way = profile_job(workbench, facts)
    if (
        under_way is not None
        and under_way.state not in FINAL
        and under_way.spec.calibration == as_stored(workbench, asked).calibration
    ):
        return under_way.id
    return submit_spec(workbench, asked, owner, Lineage(sweep_id=sweep_id)).id


def _ends_in(workbench: Workbench, rest: Sequence[JobView]) -> float | None:
    if not rest:
        return 0.0
    soon = expected(workbench)
    ends = [soon[job.id].ends_in if job.id in soon else None for job in rest]
    known = [end for end in ends if end is not None]
    return max(known) if len(known) == len(ends) else None
