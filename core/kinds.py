# SPDX-License-Identifier: Apache-2.0
"""Every job kind is a function of (spec, workspace, sink, cancel); torch is imported only when one runs."""

from pathlib import Path

from core.events import Cancel, Sink
from core.process import hide_progress_bars, return_freed_memory
from core.settings import Settings
from core.spec import JobSpec
from core.workspace import Workspace


def run(spec: JobSpec, workspace: Workspace, sink: Sink, cancel: Cancel, settings: Settings) -> None:
    """Run the job to its end; raises WorkbenchError or Cancelled, and can be called again to resume."""
    from core.engine import convert
    from core.profile_job import profile_job

    hide_progress_bars()
    return_freed_memory()
    {"convert": convert, "profile": profile_job}[spec.kind](spec, workspace, sink, cancel, settings)


def profile(spec: JobSpec, settings: Settings, sink: Sink, cancel: Cancel) -> Path:
    """Profile the model of `spec`; returns the folder. Raises WorkbenchError or Cancelled; can be resumed."""
    from core.profiling import make_profile

    hide_progress_bars()
    return_freed_memory()
    return make_profile(spec, settings, sink, cancel)
