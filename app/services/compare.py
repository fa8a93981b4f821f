# SPDX-License-Identifier: Apache-2.0
"""Finished jobs side by side: what was asked differently, and what came of it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from app.services.errors import NotFoundError
from app.services.evaluations import MeasuredRow, measured_rows
from app.services.figure_table import Cell, FigureTable
from app.services.requests import find_job
from app.services.savings import with_linear_flops
from app.services.spec_diff import differing_fields
from app.services.workbench import Workbench
from core.errors import SpecError
from core.events import Source
from core.spec import Frozen, Healing, JobSpec
from core.store.views import JobView, State

MOST = 6

Better = Literal["less", "more"]
# what decides between conversions, in the order it is shown; a figure without a better end is not marked
METRICS: Mapping[str, Better | None] = {
    "kv_bytes_per_token_measured": "less",
    "perplexity": "less",
    "perplexity_ratio": "less",
    "kl_to_base": "less",
    "kl_predicted": None,
    "top1_agreement": "more",
    "linear_parameters_after": "less",
    "linear_flops_after": "less",
    "parameters_after": "less",
    "evaluation_tokens": None,
    "seconds": "less",
    "peak_memory_bytes": "less",
}
# these mean something beside each other only when they were measured on one text
_OF_TEXT = frozenset({"perplexity", "perplexity_ratio", "kl_to_base", "top1_agreement"})
_MEASURED_ON = ("perplexity_base", "evaluation_tokens")


class MetricRow(Frozen):
    """One figure of every job; `best` are the indices of those that are better than all others."""

    name: str
    unit: str
    source: Source
    values: tuple[float | None, ...]
    better: Better | None
    best: tuple[int, ...]


class SpecRow(Frozen):
    """A field that is not the same in all, by its path in the JSON of a JobSpec."""

    path: str
    values: tuple[Any, ...]


class Sample(Frozen):
    """What the reloaded model made of a few words, greedily."""

    prompt: str
    continuation: str


class Comparison(Frozen):
    """Every tuple has one entry per job, in the order they were asked for."""

    jobs: tuple[JobView, ...]
    specs: tuple[SpecRow, ...]
    metrics: tuple[MetricRow, ...]
    layers: tuple[tuple[dict[str, Any], ...], ...] = Field(description="rows per layer; empty when unknown")
    samples: tuple[Sample | None, ...]
    measured: tuple[MeasuredRow, ...] = Field(description="what evaluations found of them, with intervals")
    is_same_text: bool = Field(description="all were measured on the same windows of the same original")


def compare_jobs(workbench: Workbench, job_ids: Sequence[str]) -> Comparison:
    """Raises NotFoundError for a job that is not there, SpecError for one that is not done, or too many."""
    wanted = tuple(dict.fromkeys(job_ids))
    if len(wanted) > MOST:
        raise SpecError(
            f"{len(wanted)} jobs were asked for", hint=f"compare {MOST} or fewer at a time", field="jobs"
        )
    jobs = tuple(_done(workbench, one) for one in wanted)
    figures = [workbench.store.figures(job.id) for job in jobs]
    is_same_text = _is_same_text(jobs)
    return Comparison(
        jobs=jobs,
        specs=_spec_rows([job.spec for job in jobs]),
        metrics=_metric_rows(workbench, jobs, is_same_text),
        layers=tuple(_layers(one) for one in figures),
        samples=tuple(_sample(one) for one in figures),
        measured=measured_rows(workbench, wanted),
        is_same_text=is_same_text,
    )


def comparable_jobs(workbench: Workbench, limit: int = 100) -> list[JobView]:
    """What can be chosen: finished conversions and healings, newest first."""
    jobs = workbench.store.list(states=[State.DONE], limit=limit)
    return [job for job in jobs if job.spec.makes_model]


def layers_table(comparison: Comparison) -> FigureTable:
    """Every layer of every job, one row each."""
    columns = ("job", "layer", "kv_lora_rank", "cached_numbers", "key_error", "value_error")
    rows: list[tuple[Cell, ...]] = [
        (job.id, row["index"], *(row.get(column) for column in columns[2:]))
        for job, layers in zip(comparison.jobs, comparison.layers, strict=True)
        for row in layers
    ]
    return FigureTable(name="layers", columns=columns, rows=tuple(rows))


def best_of(values: Sequence[float | None], better: Better | None) -> tuple[int, ...]:
    """Indices of the best of two or more known values; none when all are alike or no end is better."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if better is None or len(known) < 2 or min(known) == max(known):
        return ()
    best = min(known) if better == "less" else max(known)
    return tuple(index for index, value in enumerate(values) if value == best)


def _done(workbench: Workbench, job_id: str) -> JobView:
    job = find_job(workbench, job_id)
    if job.state is not State.DONE or not job.spec.makes_model:
        raise SpecError(
            f"job {job_id} has nothing to compare: it is {job.state}",
            hint="choose conversions that are done",
            field="jobs",
        )
    if not job.metrics:
        raise NotFoundError(f"job {job_id} has no numbers", hint="run it again", field="jobs")
    return job


def _spec_rows(specs: Sequence[JobSpec]) -> tuple[SpecRow, ...]:
    rows = differing_fields(specs) if specs else {}
    rows = {path: values for path, values in rows.items() if not _is_usual_healing(path, values)}
    return tuple(SpecRow(path=path, values=tuple(values)) for path, values in rows.items())


def _is_usual_healing(path: str, values: Sequence[Any]) -> bool:
    """Beside a model that was not healed every field of a healing differs: said is what was chosen."""
    part, _, name = path.partition(".")
    if part != "heal":
        return False
    asked = Healing.model_fields.get(name)
    always = ("text", "tokens", "trainable", "learning_rate")
    return (
        asked is None
        or name == "source"
        or (name not in always and all(value in (None, asked.default) for value in values))
    )


def _metric_rows(workbench: Workbench, jobs: Sequence[JobView], is_same_text: bool) -> tuple[MetricRow, ...]:
    stored = {one.name: one for job in jobs for one in workbench.store.metrics(job.id)}
    rows = []
    if "linear_parameters_after" in stored:
        flops = {"name": "linear_flops_after", "unit": "FLOP/token"}
        stored["linear_flops_after"] = stored["linear_parameters_after"].model_copy(update=flops)
    known = [with_linear_flops(job.metrics) for job in jobs]
    for name, better in METRICS.items():
        if name not in stored:
            continue
        values = tuple(metrics.get(name) for metrics in known)
        one = stored[name]
        best = best_of(values, better) if is_same_text or name not in _OF_TEXT else ()
        rows.append(
            MetricRow(name=name, unit=one.unit, source=one.source, values=values, better=better, best=best)
        )
    return tuple(rows)


def _layers(figures: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    return tuple(dict(row) for row in figures.get("layers", {}).get("rows", ()))


def _sample(figures: Mapping[str, Mapping[str, Any]]) -> Sample | None:
    found = figures.get("sample")
    return Sample(prompt=found["prompt"], continuation=found["continuation"]) if found else None


def _is_same_text(jobs: Sequence[JobView]) -> bool:
    """The text is named in the spec; its content is what the original's perplexity was on it."""
    seen = {
        (job.spec.model, job.spec.evaluation, *(job.metrics.get(name) for name in _MEASURED_ON))
        for job in jobs
    }
    return len(seen) <= 1
