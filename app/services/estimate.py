# SPDX-License-Identifier: Apache-2.0
"""What a request would cost, from facts alone: answered while a slider moves."""

import time
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from app.services.duration import predicted_seconds
from app.services.requests import read_request
from app.services.workbench import Workbench
from core.errors import WorkbenchError
from core.facts import ModelFacts, Problem
from core.planning import Plan, make_plan
from core.spec import Frozen, JobSpec


class Estimate(Frozen):
    """Numbers of one request. It can be submitted when `problems` is empty."""

    spec: JobSpec | None
    facts: ModelFacts | None
    plan: Plan | None
    context: int
    batch: int
    cache_bytes_before: int = Field(description="KV cache of batch x context tokens, original")
    cache_bytes_after: int
    seconds: float | None = Field(
        None, description="estimated time of the job, from the last one done here; null before the first"
    )
    problems: tuple[Problem, ...] = ()
    milliseconds: float = Field(description="server time spent on this answer")

    def problem_of(self, *fields: str) -> Problem | None:
        """The first problem that belongs beside one of `fields` (or a part of it)."""
        return next((one for one in self.problems if _matches(one.field, fields)), None)


def estimate(workbench: Workbench, data: Mapping[str, Any], context: int, batch: int) -> Estimate:
    """Never raises for what a user typed: what is wrong is in `problems`, what is known is filled."""
    start = time.perf_counter()
    problems: list[Problem] = []
    spec, facts, plan = None, None, None
    try:
        spec = read_request(data)
    except WorkbenchError as error:
        problems.append(_problem(error))
    try:
        model = str(data.get("model") or "")
        facts = workbench.facts.read(model, data.get("revision"), workbench.settings)
    except WorkbenchError as error:
        problems.append(_problem(error))
    if spec is not None and facts is not None:
        plan = make_plan(spec, facts)
        problems += plan.problems
    if spec is not None:
        try:
            workbench.texts.check(spec)
        except WorkbenchError as error:
            problems.append(_problem(error))
    before, after = plan.cache_bytes_at(context, batch) if plan else (0, 0)
    seconds = predicted_seconds(workbench, spec, facts) if spec and facts and not problems else None
    return Estimate(
        spec=spec,
        facts=facts,
        plan=plan,
        context=context,
        batch=batch,
        cache_bytes_before=before,
        cache_bytes_after=after,
        seconds=seconds,
        problems=tuple(problems),
        milliseconds=(time.perf_counter() - start) * 1000,
    )


def _problem(error: WorkbenchError) -> Problem:
    return Problem(message=error.message, hint=error.hint, field=error.field or "model")


def _matches(field: str, fields: tuple[str, ...]) -> bool:
    return any(field == one or field.startswith(f"{one}.") for one in fields)
