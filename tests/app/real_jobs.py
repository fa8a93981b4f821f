# SPDX-License-Identifier: Apache-2.0
"""Jobs that really ran: a tiny model through the engine, its events through the record."""

from pathlib import Path
from typing import Any

from app.services.workbench import Workbench
from core import kinds
from core.events import Event, NeverCancel
from core.presets import spec_from_preset
from core.spec import Evaluation, JobSpec
from core.store.artefacts import describe
from core.workspace import Workspace


class RecordSink:
    """What a worker does with events: each is a row."""

    def __init__(self, bench: Workbench, job: str) -> None:
        self._bench, self._job = bench, job

    def emit(self, event: Event) -> None:
        assert self._bench.store.record(self._job, "worker", event)


def tiny_request(text: Path, preset: str, keep: float, **fields: Any) -> JobSpec:
    """A conversion of the demo's stand-in, measured on the text it is calibrated on."""
    calibration = {"text": str(text), "tokens": 256, "context": 64}
    evaluation = Evaluation(text=str(text), context=64, windows=2)
    return spec_from_preset(
        preset, model="demo", keep=keep, calibration=calibration, evaluation=evaluation, **fields
    )


def run_job(bench: Workbench, spec: JobSpec) -> str:
    """Queue, claim, run in this process, finish; the id."""
    return work_off(bench, bench.store.submit(spec).id)


def work_off(bench: Workbench, job: str) -> str:
    """What a worker does with a queued job; its id."""
    spec = bench.store.get(job).spec
    bench.store.claim(job, "worker", 1000)
    folder = bench.settings.jobs_dir / job
    workspace = Workspace(work=folder / "work", result=folder / "result")
    kinds.run(spec, workspace, RecordSink(bench, job), NeverCancel(), bench.settings)
    assert bench.store.enter_verifying(job, "worker")
    assert bench.store.finish(job, "worker", describe(workspace.result), 1_000_000)
    return job
