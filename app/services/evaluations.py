# SPDX-License-Identifier: Apache-2.0
"""Evaluation jobs: what one may ask for, and what finished ones say of a conversion."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import Field

from app.services.roots import JOB, check_model_path
from app.services.upload_list import uploaded_for
from app.services.uploads import path_of
from app.services.workbench import Workbench
from core.chat.naming import folder_of
from core.errors import ModelError, SpecError, TextError
from core.events import Source
from core.facts import ModelFacts
from core.further.spec import Measurements
from core.spec import Frozen, JobSpec
from core.store.views import JobView, State

# how far back evaluations of a conversion are looked for
_LOOKED_AT = 300


class Span(Frozen):
    """A figure and the ends of its 95 % interval; without them one window was measured."""

    value: float
    low: float | None
    high: float | None


class MeasuredRow(Frozen):
    """One figure of several conversions, all on the same sample."""

    about: str = Field(description="text or task, and the tokens of a window or question")
    figure: str
    sample: str
    source: Source = "measured"
    values: tuple[Span | None, ...] = Field(description="one for each conversion")


def has_harness() -> bool:
    """Whether lm-eval is installed; it is not imported."""
    return find_spec("lm_eval") is not None


def check_evaluation(workbench: Workbench, spec: JobSpec) -> None:
    """Raise the WorkbenchError that names the fix; weights and lengths of files are checked by the worker."""
    asked, settings = spec.evaluate, workbench.settings
    if asked is None:
        raise SpecError(
            "an evaluation job says what to measure", hint="give `evaluate` its texts", field="evaluate"
        )
    facts = workbench.facts.read(spec.model, spec.revision, settings)
    for name in asked.conversions:
        check_model_path(settings, name)
        folder = folder_of(name, settings) if name.startswith(JOB) else Path(name).expanduser()
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"'{name[:200]}' holds no model",
                hint="name folders this workbench wrote, or job:ID of finished conversions",
                field="evaluate.conversions",
            )
    workbench.texts.check_measured(asked, settings)
    if asked.harness and not has_harness():
        raise SpecError(
            "lm-eval is not installed",
            hint="run \"pip install 'mla-workbench[eval]'\" and start again, or leave its tasks out",
            field="evaluate.harness",
        )
    if asked.harness_folder is not None:
        check_model_path(settings, asked.harness_folder)
    _check_lengths(workbench, asked, facts)


def _check_lengths(workbench: Workbench, asked: Measurements, facts: ModelFacts) -> None:
    """Windows within the positions that are learned, and within the uploads, whose tokens are known."""
    sizes = {"evaluate.contexts": asked.contexts if asked.texts else ()}
    sizes["evaluate.retrieval_contexts"] = asked.retrieval_contexts if asked.retrieval else ()
    for field, contexts in sizes.items():
        longest = max(contexts, default=0)
        if not facts.rotary_dim and longest > facts.max_context:
            raise ModelError(
                f"{longest:,} tokens are beyond the {facts.max_context:,} positions this model has learned",
                hint=f"use {facts.max_context:,} or less",
                field=field,
            )
    need = asked.windows * max(asked.contexts, default=0)
    for text in uploaded_for(workbench, facts.folder):
        is_short = text.tokens_are == "counted" and (text.tokens or 0) < need
        if is_short and {text.value, str(path_of(workbench.settings, text))} & {*asked.texts}:
            raise TextError(
                f"{text.name} has {text.tokens:,} tokens, {asked.windows} windows of "
                f"{max(asked.contexts):,} need {need:,}",
                hint="use fewer or shorter windows, or a longer text",
                field="evaluate.windows",
            )


def evaluations(workbench: Workbench, job_ids: Sequence[str]) -> list[JobView]:
    """Finished evaluations that name one of the conversions, newest first."""
    wanted = {f"{JOB}{one}" for one in job_ids}
    jobs = workbench.store.list(states=[State.DONE], limit=_LOOKED_AT)
    return [job for job in jobs if job.spec.evaluate and wanted & set(job.spec.evaluate.conversions)]


def measured_rows(workbench: Workbench, job_ids: Sequence[str]) -> tuple[MeasuredRow, ...]:
    """What evaluations found of the conversions, by text or task; of the same thing the newest counts."""
    found: dict[tuple[str, str, str], dict[str, Span]] = {}
    for job in evaluations(workbench, job_ids):
        report = workbench.store.figures(job.id).get("evaluation", {})
        for model, about, figure, sample, span in _figures(report, job.spec.evaluate):
            found.setdefault((about, figure, sample), {}).setdefault(model, span)
    models = [f"{JOB}{one}" for one in job_ids]
    return tuple(
        MeasuredRow(about=about, figure=figure, sample=sample, values=tuple(map(spans.get, models)))
        for (about, figure, sample), spans in found.items()
        if any(model in spans for model in models)
    )


def _figures(
    report: Mapping[str, Any], asked: Measurements | None
) -> Iterator[tuple[str, str, str, str, Span]]:
    """(model, about, figure, sample, span) of every figure of one evaluation."""
    for row in report.get("texts", ()):
        about = f"{_last(row['text'])}, {row['context']:,} tokens"
        sample = f"{row['windows']} windows, {row['tokens']:,} tokens"
        for figure, span in _text_spans(row):
            yield row["model"], about, figure, sample, span
    for row in report.get("retrieval", ()):
        about = f"{row['task']}, {row['context']:,} tokens"
        sample = f"{row['samples']} questions, seed {asked.seed if asked else 0}"
        yield row["model"], about, "written", sample, Span.model_validate(row["match"])
        chosen = f"chosen, {row['chance']:.1%} by chance"
        yield row["model"], about, chosen, sample, Span.model_validate(row["choice"])
    for row in report.get("harness", ()):
        sample = f"{row['samples']} questions"
        yield row["model"], row["task"], row["metric"], sample, Span.model_validate(row["score"])


def _text_spans(row: Mapping[str, Any]) -> Iterator[tuple[str, Span]]:
    if "perplexity_base" not in row:
        return
    paired = row["paired"] or {
        name: {"value": value, "low": None, "high": None}
        for name, value in (
            ("perplexity_ratio", row["perplexity"] / row["perplexity_base"]),
            ("kl_to_base", row["kl_to_base"]),
            ("top1_agreement", row["top1_agreement"]),
        )
    }
    for name in ("perplexity_ratio", "kl_to_base", "top1_agreement"):
        yield name, Span.model_validate(paired[name])


def _last(name: str) -> str:
    return name.rstrip("/").rsplit("/", maxsplit=1)[-1]
