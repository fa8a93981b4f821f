# SPDX-License-Identifier: Apache-2.0
"""From what a form or an HTTP body says to a JobSpec that can run, and into the queue."""

from collections.abc import Mapping
from typing import Any, TypeVar

from app.services.errors import NotFoundError
from app.services.workbench import Workbench
from core.calibrate.text import NAMED, existing_file, text_parts
from core.errors import StateError
from core.planning import Plan, make_plan
from core.presets import spec_from_preset
from core.spec import Calibration, Evaluation, JobSpec, parse_spec
from core.store.views import JobView

T = TypeVar("T", Calibration, Evaluation)


def read_request(data: Mapping[str, Any]) -> JobSpec:
    """A JobSpec in which a named preset fills what was not said; raises SpecError naming the field."""
    said = dict(data)
    recipe = said.get("recipe")
    if not said.get("preset") or not isinstance(recipe, dict | None):
        return parse_spec(said)
    if recipe is None:
        said.pop("recipe", None)
    return spec_from_preset(str(said.pop("preset")), **said)


def plan_for(workbench: Workbench, spec: JobSpec) -> Plan:
    """The plan of `spec`, perhaps blocked; raises ModelError when the model cannot be read."""
    facts = workbench.facts.read(spec.model, spec.revision, workbench.settings)
    return make_plan(spec, facts)


def submit(workbench: Workbench, data: Mapping[str, Any], owner: str = "") -> JobView:
    """Check everything that can be checked without weights, then queue. Nothing is stored on an error."""
    spec = read_request(data)
    plan_for(workbench, spec).raise_if_blocked()
    workbench.texts.check(spec)
    job = workbench.store.submit(_pinned(workbench, spec), owner)
    workbench.bell.ring(job.id)
    return job


def _pinned(workbench: Workbench, spec: JobSpec) -> JobSpec:
    """The spec as the worker must read it: a branch may move until then, and its folder is another one."""
    facts = workbench.facts.read(spec.model, spec.revision, workbench.settings)
    changes: dict[str, Any] = {"calibration": _absolute(spec.calibration)}
    if facts.kind == "hub":
        changes["revision"] = facts.revision
    elif facts.kind == "folder":
        changes["model"] = facts.folder
    if spec.evaluation is not None:
        changes["evaluation"] = _absolute(spec.evaluation)
    return spec.model_copy(update=changes)


def _absolute(part: T) -> T:
    names = []
    for name in text_parts(part.text):
        path = None if name in NAMED else existing_file(name)
        names.append(name if path is None else str(path.absolute()))
    return part.model_copy(update={"text": "+".join(names)})


def find_job(workbench: Workbench, job_id: str) -> JobView:
    """The job; raises NotFoundError when there is none."""
    try:
        return workbench.store.get(job_id)
    except StateError as error:
        raise NotFoundError(error.message, hint=error.hint, field="job_id") from error


def cancel(workbench: Workbench, job_id: str) -> JobView:
    """Ask the job to stop; raises NotFoundError, or StateError when it has stopped already."""
    find_job(workbench, job_id)
    return workbench.store.request_cancel(job_id)


def resume(workbench: Workbench, job_id: str) -> JobView:
    """Queue a stopped job again; raises NotFoundError, or StateError when there is nothing to resume."""
    find_job(workbench, job_id)
    job = workbench.store.resume(job_id)
    workbench.bell.ring(job.id)
    return job


def delete(workbench: Workbench, job_id: str) -> None:
    """Forget a stopped job and its files; raises NotFoundError, or StateError when it still runs."""
    find_job(workbench, job_id)
    workbench.store.delete(job_id)
