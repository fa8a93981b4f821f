# SPDX-License-Identifier: Apache-2.0
"""A profile as a job: the profile itself is stored for every later job, its summary is the job's result."""

import shutil
import time

from core.events import Cancel, Metric, Sink
from core.process import peak_memory_bytes
from core.profiles import FILE, Profile, load_profile
from core.profiling import RECIPES, make_profile
from core.settings import Settings
from core.spec import JobSpec
from core.workspace import Workspace


def profile_job(spec: JobSpec, workspace: Workspace, sink: Sink, cancel: Cancel, settings: Settings) -> None:
    """Make the profile, or find it made; a copy of profile.json appears in the result folder.

    Call it again with the same arguments to resume. Raises WorkbenchError, or Cancelled.
    """
    started = time.monotonic()
    folder = make_profile(spec, settings, sink, cancel)
    for metric in _metrics(load_profile(folder)):
        sink.emit(metric)
    sink.emit(Metric(name="seconds", value=time.monotonic() - started, unit="s"))
    sink.emit(Metric(name="peak_memory_bytes", value=peak_memory_bytes(), unit="bytes"))
    copy = workspace.work / "export"
    copy.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / FILE, copy / FILE)
    workspace.result.parent.mkdir(parents=True, exist_ok=True)
    copy.rename(workspace.result)
    shutil.rmtree(workspace.work)


def _metrics(found: Profile) -> list[Metric]:
    """How far its predictions may be off, per preset: the factor by which a point left out was missed."""
    spreads = [
        Metric(name=f"profile_spread_{name}", value=curves.fit.spread, unit="ratio")
        for name, curves in zip(RECIPES, found.recipes, strict=True)
    ]
    return [Metric(name="profile_tokens", value=found.tokens, unit="tokens"), *spreads]
