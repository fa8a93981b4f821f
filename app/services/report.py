# SPDX-License-Identifier: Apache-2.0
"""Everything that is known of a finished conversion or healing, for a reader who believes nothing unseen."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.services.copy_as import as_command
from app.services.errors import NotFoundError
from app.services.evaluations import evaluations
from app.services.healing_source import job_healed
from app.services.measuring import measurable
from app.services.requests import find_job
from app.services.roots import JOB
from app.services.text_names import friendly
from app.services.unmeasured import unmeasured
from app.services.workbench import Workbench
from core.errors import WorkbenchError
from core.facts import ModelFacts
from core.further.own import own_row
from core.heal.mix import read_mix
from core.spec import JobSpec
from core.store.views import JobView, State, StoredArtefact, StoredMetric

# how far back healings of a conversion are looked for
_LOOKED_AT = 300
_KINDS = ("texts", "retrieval", "harness")


@dataclass(frozen=True)
class Overlap:
    """One text that was learned from beside one that was measured on; share None: it cannot be said."""

    seen: str
    held_out: str
    share: float | None


@dataclass(frozen=True)
class Report:
    """record: conversion.json. tables: rows as evaluations have them, each with the job that measured it.

    family: the job itself, what it was healed from and what was healed from it, oldest first.
    """

    job: JobView
    spec: JobSpec
    record: Mapping[str, Any]
    files: Sequence[StoredArtefact]
    metrics: Mapping[str, StoredMetric]
    family: Sequence[JobView]
    evaluations: Sequence[JobView]
    tables: Mapping[str, Any]
    overlaps: Sequence[Overlap]
    missing: Sequence[str]
    commands: Sequence[tuple[str, str]]


def make_report(workbench: Workbench, job_id: str) -> Report:
    """Read from the record and the result's folder; raises NotFoundError when the job made no model."""
    job = measurable(workbench, job_id)
    family = _family(workbench, job)
    later = evaluations(workbench, [one.id for one in family])
    tables = _tables(workbench, job, family, later)
    overlaps = _overlaps(workbench, job.spec, tables["texts"])
    return Report(
        job=job,
        spec=friendly(workbench.settings, job.spec),
        record=_record(workbench.result_folder(job.id)),
        files=workbench.store.artefacts(job.id),
        metrics={one.name: one for one in workbench.store.metrics(job.id)},
        family=family,
        evaluations=later,
        tables=tables,
        overlaps=overlaps,
        missing=unmeasured(job, tables, _facts(workbench, job), [one.share for one in overlaps]),
        commands=[*_commands(workbench, [*family, *reversed(later)])],
    )


def _family(workbench: Workbench, job: JobView) -> list[JobView]:
    """Its source, itself, and finished healings of it."""
    done = workbench.store.list(states=[State.DONE], limit=_LOOKED_AT)
    healings = [one for one in done if job_healed(workbench.settings, one.spec) == job.id]
    healed = job_healed(workbench.settings, job.spec)
    try:
        source = [find_job(workbench, healed)] if healed else []
    except NotFoundError:
        source = []
    return [*source, job, *reversed(healings)]


def _tables(
    workbench: Workbench, job: JobView, family: Sequence[JobView], later: Sequence[JobView]
) -> dict[str, Any]:
    """What the jobs of the family measured of themselves, then what evaluations found, oldest first."""
    found: dict[str, Any] = {"base": job.spec.model, "conversions": [], **{kind: [] for kind in _KINDS}}
    for one in family:
        row = own_row(f"{JOB}{one.id}", one.spec.evaluation, one.metrics)
        found["texts"] += [row | {"job": one.id}] if row else []
    wanted = {job.spec.model, *(f"{JOB}{one.id}" for one in family)}
    for one in reversed(later):
        report: Mapping[str, Any] = workbench.store.figures(one.id).get("evaluation", {})
        for kind in _KINDS:
            rows = [row for row in report.get(kind, ()) if row["model"] in wanted | {report["base"]}]
            found[kind] += [row | {"job": one.id, "seed": _seed(one)} for row in rows]
    return found


def _seed(job: JobView) -> int:
    """What drew the questions of an evaluation."""
    return job.spec.evaluate.seed if job.spec.evaluate else 0


def _overlaps(workbench: Workbench, spec: JobSpec, rows: Sequence[Mapping[str, Any]]) -> list[Overlap]:
    """Every text that shaped the weights beside every one that was measured on."""
    learned = [spec.calibration.text]
    learned += [one.name for one in read_mix(spec.heal.text)] if spec.heal else []
    held_out = dict.fromkeys(row["text"] for row in rows)
    return [
        Overlap(seen, text, workbench.overlaps.share(seen, text))
        for seen in dict.fromkeys(learned)
        for text in held_out
    ]


def _facts(workbench: Workbench, job: JobView) -> ModelFacts | None:
    """None when the original is not on this machine any more."""
    try:
        return workbench.facts.read(job.spec.model, job.spec.revision, workbench.settings)
    except WorkbenchError:
        return None


def _record(folder: Path) -> dict[str, Any]:
    """conversion.json; empty when the files were removed."""
    try:
        found: dict[str, Any] = json.loads((folder / "conversion.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _commands(workbench: Workbench, jobs: Sequence[JobView]) -> Iterator[tuple[str, str]]:
    """(what it repeats, command) of every job in the order in which they were done."""
    for job in jobs:
        yield f"{job.spec.kind} · job {job.id}", as_command(friendly(workbench.settings, job.spec))
