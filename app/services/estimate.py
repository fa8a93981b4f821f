# SPDX-License-Identifier: Apache-2.0
"""What a request would cost, from facts alone: answered while a slider moves."""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import Field

from app.services.duration import predicted_seconds
from app.services.predictions import predicted
from app.services.requests import read_request
from app.services.workbench import Workbench
from core.errors import WorkbenchError
from core.facts import ModelFacts, Problem
from core.planning import Plan, make_plan
from core.profiles import Prediction
from core.spec import Frozen, JobSpec

T = TypeVar("T")


class Estimate(Frozen):
    """Numbers of one request. It can be submitted when `problems` is empty."""

    spec: JobSpec | None
    facts: ModelFacts | None
    plan: Plan | None
    context: int
    batch: int
    cache_bytes_before: int = Field(description="KV cache of batch x context tokens, original")
    cache_bytes_after: int
    prediction: Prediction | None = Field(
        None, description="KL to the original, when the model has a profile that knows the recipe"
    )
    seconds: float | None = Field(
        None, description="estimated time of the job, from the last one done here; null before the first"
    )
    problems: tuple[Problem, ...] = ()
    milliseconds: float = Field(description="server time spent on this answer")


def estimate(workbench: Workbench, data: Mapping[str, Any], context: int, batch: int) -> Estimate:
    """Never raises for what a user typed: what is wrong is in `problems`, what is known is filled."""
    start = time.perf_counter()
    problems: list[Problem] = []
    plan, prediction, seconds = None, None, None
    spec = _tried(lambda: read_request(data), problems)
    model, revision = str(data.get("model") or ""), data.get("revision")
    facts = _tried(lambda: workbench.facts.read(model, revision, workbench.settings), problems)
    if spec is not None and facts is not None:
        plan = make_plan(spec, facts)
        problems += plan.problems
    if spec is not None:
        _tried(lambda: workbench.texts.check(spec, workbench.settings), problems)
    if spec is not None and facts is not None and plan is not None and not problems:
        prediction = predicted(workbench.profiles, spec.recipe, facts, plan, workbench.settings)
        seconds = predicted_seconds(workbench, spec, facts)
    before, after = plan.cache_bytes_at(context, batch) if plan else (0, 0)
    return Estimate(
        spec=spec,
        facts=facts,
        plan=plan,
        context=context,
        batch=batch,
        cache_bytes_before=before,
        cache_bytes_after=after,
        prediction=prediction,
        seconds=seconds,
        problems=tuple(problems),
        milliseconds=(time.perf_counter() - start) * 1000,
    )


def _tried(read: Callable[[], T], problems: list[Problem]) -> T | None:
    """What `read` gives, or None with the reason added to `problems`."""
    try:
        return read()
    except WorkbenchError as error:
        problems.append(Problem(message=error.message, hint=error.hint, field=error.field or "model"))
        return None
