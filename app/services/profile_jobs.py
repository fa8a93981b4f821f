# SPDX-License-Identifier: Apache-2.0
"""The job that makes a model's profile: what it asks for, what it costs, and the one that is under way."""

from collections.abc import Mapping
from typing import Any

from app.services.duration import predicted_seconds
from app.services.requests import submit
from app.services.workbench import Workbench
from core.facts import ModelFacts
from core.profiles import spec_for_profile
from core.spec import JobSpec
from core.store.views import FINAL, JobView, State

# fields of a request that a profile depends on
_COUNTS = ("model", "revision", "calibration", "device")
# how far back the newest profile job of a model is looked for
_LOOKED_AT = 20


def submit_profile(workbench: Workbench, data: Mapping[str, Any], owner: str = "") -> JobView:
    """Queue the profile of the model in `data`, unless one is under way. Raises WorkbenchError."""
    facts = workbench.facts.read(str(data.get("model") or ""), data.get("revision"), workbench.settings)
    found = profile_job(workbench, facts)
    if found is not None and found.state not in FINAL:
        return found
    return submit(workbench, {"kind": "profile"} | {one: data[one] for one in _COUNTS if one in data}, owner)


def profile_job(workbench: Workbench, facts: ModelFacts) -> JobView | None:
    """The newest profile job of the model that has not done its work: waiting, running, stopped or failed."""
    # a folder is stored by its whole path
    model = facts.folder if facts.kind == "folder" else facts.name
    for job in workbench.store.list(text=model, limit=_LOOKED_AT):
        if job.spec.kind == "profile" and job.spec.model == model:
            return None if job.state is State.DONE else job
    return None


def profile_seconds(workbench: Workbench, spec: JobSpec, facts: ModelFacts) -> float | None:
    """How long a profile would take here; None before the first job was done."""
    return predicted_seconds(workbench, spec_for_profile(spec), facts)
