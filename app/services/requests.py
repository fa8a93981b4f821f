# SPDX-License-Identifier: Apache-2.0
"""From what a form or an HTTP body says to a JobSpec that can run, and into the queue."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.services.disk import check_disk, job_bytes
from app.services.errors import NotFoundError
from app.services.evaluations import check_evaluation
from app.services.healing_source import job_healed, with_source
from app.services.roots import JOB
from app.services.text_names import pinned
from app.services.workbench import Workbench
from core.errors import StateError
from core.fixes import apply
from core.planning import Plan, make_plan
from core.presets import spec_from_preset
from core.spec import JobSpec, parse_spec
from core.store.views import ALONE, JobView, Lineage


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


def submit(
    workbench: Workbench, data: Mapping[str, Any], owner: str = "", *, parent_id: str | None = None
) -> JobView:
    """Check everything that can be checked without weights, then queue. Nothing is stored on an error.

    `parent_id` is the job this one was cloned from; it need not exist any more. A healing comes from the job
    whose result it heals.
    """
    spec = read_request(data)
    parent = parent_id or job_healed(workbench.settings, spec)
    return submit_spec(workbench, spec, owner, Lineage(parent_id=parent))


def submit_spec(workbench: Workbench, spec: JobSpec, owner: str = "", lineage: Lineage = ALONE) -> JobView:
    """As `submit`, for a spec that has been read."""
    spec = with_source(workbench.settings, spec)
    if spec.kind == "evaluate":
        check_evaluation(workbench, spec)
    else:
        plan = plan_for(workbench, spec)
        plan.raise_if_blocked()
        workbench.texts.check(spec, workbench.settings)
        check_disk(workbench, plan)
    job = workbench.store.submit(as_stored(workbench, spec), owner, lineage)
    if lineage.after_id is None:
        workbench.bell.ring(job.id)
    workbench.recent.forget()
    return job


def retry(workbench: Workbench, job_id: str, fix: int, owner: str = "") -> JobView:
    """A new job like the failed one with one of the changes it offers; raises NotFoundError."""
    failed = find_job(workbench, job_id)
    if not 0 <= fix < len(failed.fixes):
        raise NotFoundError(
            f"job {job_id} offers no change number {fix}", hint="see its `fixes`, counted from 0", field="fix"
        )
    spec = apply(failed.spec, failed.fixes[fix])
    return submit_spec(workbench, spec, owner, Lineage(parent_id=job_id))


def as_stored(workbench: Workbench, spec: JobSpec) -> JobSpec:
    """The spec as the worker must read it: a branch may move until then, and its folder is another one."""
    facts = workbench.facts.read(spec.model, spec.revision, workbench.settings)
    changes: dict[str, Any] = {}
    if facts.kind == "hub":
        changes["revision"] = facts.revision
    elif facts.kind == "folder":
        changes["model"] = facts.folder
    if spec.evaluate is not None:
        # a folder means the same to a worker that was started elsewhere
        named = spec.evaluate.conversions
        whole = (one if one.startswith(JOB) else str(Path(one).expanduser().absolute()) for one in named)
        asked = spec.evaluate.model_copy(update={"conversions": tuple(whole)})
        spec = spec.model_copy(update={"evaluate": asked})
    return pinned(workbench.settings, spec).model_copy(update=changes)


def find_job(workbench: Workbench, job_id: str) -> JobView:
    """The job; raises NotFoundError when there is none."""
    try:
        return workbench.store.get(job_id)
    except StateError as error:
        raise NotFoundError(error.message, hint=error.hint, field="job_id") from error


def cancel(workbench: Workbench, job_id: str) -> JobView:
    """Ask the job to stop; raises NotFoundError, or StateError when it has stopped already."""
    find_job(workbench, job_id)
    workbench.recent.forget()
    return workbench.store.request_cancel(job_id)


def pause(workbench: Workbench, job_id: str) -> JobView:
    """Ask the job to rest, its finished layers kept; raises NotFoundError, or StateError when it cannot."""
    find_job(workbench, job_id)
    workbench.recent.forget()
    return workbench.store.request_pause(job_id)


def resume(workbench: Workbench, job_id: str) -> JobView:
    """Queue a stopped job again; raises NotFoundError, or StateError when there is nothing to resume."""
    find_job(workbench, job_id)
    job = workbench.store.resume(job_id)
    workbench.bell.ring(job.id)
    workbench.recent.forget()
    return job


def delete(workbench: Workbench, job_id: str) -> int:
    """Forget a stopped job and its files; returns the bytes given back.

    Raises NotFoundError, or StateError when it still runs.
    """
    find_job(workbench, job_id)
    size = job_bytes(workbench, job_id).total
    workbench.store.delete(job_id)
    workbench.recent.forget()
    workbench.disk.forget()
    return size
