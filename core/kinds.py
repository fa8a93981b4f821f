# SPDX-License-Identifier: Apache-2.0
"""Every job kind is a function of (spec, workspace, sink, cancel); torch is imported only when one runs."""

from collections.abc import Callable
from pathlib import Path

from core.events import Cancel, Sink
from core.process import hide_progress_bars, return_freed_memory
from core.settings import Settings
from core.spec import JobSpec
from core.workspace import Workspace

Job = Callable[[JobSpec, Workspace, Sink, Cancel, Settings], None]


def run(spec: JobSpec, workspace: Workspace, sink: Sink, cancel: Cancel, settings: Settings) -> None:
    """Run the job to its end; raises WorkbenchError or Cancelled, and can be called again to resume."""
    hide_progress_bars()
    return_freed_memory()
    _job_of(spec.kind)(spec, workspace, sink, cancel, settings)


def _job_of(kind: str) -> Job:
    """What runs jobs of `kind`; only its own packages are imported."""
    if kind == "heal":
        from core.heal.job import heal

        return heal
    if kind == "profile":
        from core.profile_job import profile_job

        return profile_job
    if kind == "evaluate":
        from core.further.job import evaluate_job

        return evaluate_job
    from core.engine import convert

    return convert


def profile(spec: JobSpec, settings: Settings, sink: Sink, cancel: Cancel) -> Path:
    """Profile the model of `spec`; returns the folder. Raises WorkbenchError or Cancelled; can be resumed."""
    from core.profiling import make_profile

    hide_progress_bars()
    return_freed_memory()
    return make_profile(spec, settings, sink, cancel)
