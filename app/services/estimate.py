# SPDX-License-Identifier: Apache-2.0
"""What a request would cost, from facts alone: answered while a slider moves."""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import Field

from app.services.healing_time import seconds_of
from app.services.requests import read_request
from app.services.workbench import Workbench
from core.decode_cost import decode_flops
from core.errors import WorkbenchError
from core.facts import ModelFacts, Problem
from core.foresight import Foreseen, foresee
from core.planning import Plan, make_plan
from core.profiles import Prediction
from core.spec import Frozen, JobSpec
from core.widths import largest_rank

T = TypeVar("T")


class LayerTune(Frozen):
    """One layer as the tuning view draws it."""

    index: int
    rope_dim: int = Field(description="rotary dims per rope key; 0 in pre-rope")
    rank: int = Field(description="numbers of the latent")
    most_rank: int = Field(description="rank that keeps the layer's keys and values exact")
    cached_numbers: int = Field(description="numbers cached per token")
    loss: float | None = Field(
        None, description="predicted nats per token of this layer, a part of the whole"
    )


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
    layers: tuple[LayerTune, ...] = Field((), description="every layer; empty while there is no plan")
    allocation: str = Field(
        "uniform",
        description="how ranks are spread over `layers`: given by the request, uniform, the allocation the "
        "recipe asks for as a stored profile foresees it, or open: calibration will say, all are shown alike",
    )
    decode_flops_before: int = Field(0, description="FLOPs of decoding one token at `context`, whole model")
    decode_flops_after: int = 0
    seconds: float | None = Field(
        None, description="estimated time of the job, from the last one done here; null before the first"
    )
    problems: tuple[Problem, ...] = ()
    milliseconds: float = Field(description="server time spent on this answer")


def estimate(workbench: Workbench, data: Mapping[str, Any], context: int, batch: int) -> Estimate:
    """Never raises for what a user typed: what is wrong is in `problems`, what is known is filled."""
    start = time.perf_counter()
    problems: list[Problem] = []
    known: dict[str, Any] = {}
    spec = _tried(lambda: read_request(data), problems)
    model, revision = str(data.get("model") or ""), data.get("revision")
    facts = _tried(lambda: workbench.facts.read(model, revision, workbench.settings), problems)
    if spec is not None and facts is not None:
        known = _planned(workbench, spec, facts, context, batch)
        problems += known["plan"].problems
    if spec is not None:
        _tried(lambda: workbench.texts.check(spec, workbench.settings), problems)
    if spec is not None and facts is not None and not problems:
        known["seconds"] = seconds_of(workbench, spec, facts)
    else:
        known.pop("prediction", None)
    return Estimate(
        spec=spec,
        facts=facts,
        context=context,
        batch=batch,
        problems=tuple(problems),
        milliseconds=(time.perf_counter() - start) * 1000,
        **({"plan": None, "cache_bytes_before": 0, "cache_bytes_after": 0} | known),
    )


def _planned(
    workbench: Workbench, spec: JobSpec, facts: ModelFacts, context: int, batch: int
) -> dict[str, Any]:
    """What follows from the plan; of a blocked one, no more than the plan itself."""
    plan = make_plan(spec, facts)
    found: dict[str, Any] = {}
    if not plan.problems:
        seen = foresee(spec, facts, workbench.profiles.newest(workbench.settings.home, facts.name))
        plan = make_plan(spec, facts, seen.widths)
        before, after = decode_flops(facts, plan, context)
        found = {
            "prediction": seen.prediction,
            "allocation": seen.allocation,
            "layers": _layers(spec, facts, plan, seen),
            "decode_flops_before": before,
            "decode_flops_after": after,
        }
    bytes_before, bytes_after = plan.cache_bytes_at(context, batch)
    return found | {"plan": plan, "cache_bytes_before": bytes_before, "cache_bytes_after": bytes_after}


def _layers(spec: JobSpec, facts: ModelFacts, plan: Plan, seen: Foreseen) -> tuple[LayerTune, ...]:
    losses = seen.layers or (None,) * len(plan.layers)
    return tuple(
        LayerTune(
            index=layer.index,
            rope_dim=layer.widths.rope_dim,
            rank=layer.kv_lora_rank,
            most_rank=largest_rank(spec.recipe, facts, layer.widths.rope_dim),
            cached_numbers=layer.cached_numbers,
            loss=loss,
        )
        for layer, loss in zip(plan.layers, losses, strict=True)
    )


def _tried(read: Callable[[], T], problems: list[Problem]) -> T | None:
    """What `read` gives, or None with the reason added to `problems`."""
    try:
        return read()
    except WorkbenchError as error:
        problems.append(Problem(message=error.message, hint=error.hint, field=error.field or "model"))
        return None
