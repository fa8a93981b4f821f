# SPDX-License-Identifier: Apache-2.0
"""The models this installation has met: the demo, those with jobs, those with a profile."""

from collections import Counter
from pathlib import Path

from pydantic import Field

from app.services.models import recent_models
from app.services.profiles import StoredProfile, stored_profiles
from app.services.workbench import Workbench
from core.errors import WorkbenchError
from core.facts import ModelFacts
from core.spec import Frozen
from core.store.views import JobView
from core.weights.locate import DEMO

_MOST_JOBS = 500


class KnownModel(Frozen):
    """One line of the list."""

    name: str
    facts: ModelFacts | None = Field(description="null when it is not on this machine, or not any more")
    has_profile: bool
    jobs: int = Field(description="among the newest 500 of all models")


def known_models(workbench: Workbench, limit: int = 30) -> list[KnownModel]:
    """The demo first, then the lately used. A Hub is not asked: a list must not wait for it."""
    profiled = dict.fromkeys(one.model for one in stored_profiles(workbench.settings) if one.model)
    names = dict.fromkeys([*recent_models(workbench, limit), *profiled])
    jobs = Counter(job.spec.model for job in workbench.store.list(limit=_MOST_JOBS))
    return [
        KnownModel(
            name=name,
            facts=_here(workbench, name),
            has_profile=name in profiled,
            jobs=jobs[name],
        )
        for name in names
    ]


def model_facts(workbench: Workbench, model: str) -> ModelFacts:
    """Facts under the name that jobs and profiles store: a folder's is its whole path.

    Raises ModelError when it cannot be found.
    """
    facts = workbench.facts.read(model.strip(), None, workbench.settings)
    if facts.kind == "folder" and facts.name != facts.folder:
        return workbench.facts.read(facts.folder, None, workbench.settings)
    return facts


def jobs_of(workbench: Workbench, model: str) -> list[JobView]:
    """Jobs of exactly this model, newest first."""
    found = workbench.store.list(text=model, limit=_MOST_JOBS)
    return [job for job in found if job.spec.model == model]


def profile_of(workbench: Workbench, model: str) -> StoredProfile | None:
    """The newest finished profile of the model: what it is of, its size, when it was made."""
    return next((one for one in stored_profiles(workbench.settings) if one.model == model), None)


def _here(workbench: Workbench, name: str) -> ModelFacts | None:
    if name != DEMO and not Path(name).is_absolute():
        return None
    try:
        return workbench.facts.read(name, None, workbench.settings)
    except WorkbenchError:
        return None
