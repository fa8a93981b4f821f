# SPDX-License-Identifier: Apache-2.0
"""Which converted model a healing is for: a finished job by its id, or the folder of one. No torch."""

from pathlib import Path

from app.services.roots import JOB, check_source_path
from core.errors import ModelError
from core.settings import Settings
from core.spec import JobSpec

FIELD = "heal.source"
# every folder that this workbench wrote says how in it
_RECORD = "conversion.json"


def with_source(settings: Settings, spec: JobSpec) -> JobSpec:
    """`spec` with the folder of the model it heals, for any process; raises ModelError without one."""
    if spec.heal is None:
        return spec
    folder = str(source_folder(settings, spec.heal.source))
    return spec.model_copy(update={"heal": spec.heal.model_copy(update={"source": folder})})


def source_folder(settings: Settings, source: str) -> Path:
    """The folder of "job:ID", or of a path; raises ModelError unless a converted model is in it."""
    if source.startswith(JOB):
        job_id = source.removeprefix(JOB)
        folder = settings.jobs_dir / job_id / "result"
        if not job_id.isalnum() or not (folder / _RECORD).is_file():
            raise ModelError(
                f"job {job_id[:32]} has no converted model",
                hint="wait until the job is done, or convert again if its files were removed",
                field=FIELD,
            )
        return folder.absolute()
    check_source_path(settings, source, FIELD)
    folder = Path(source).expanduser().absolute()
    if not folder.is_dir():
        raise ModelError(
            f"there is no folder '{source[:200]}'", hint="give the folder of a converted model", field=FIELD
        )
    if not (folder / _RECORD).is_file():
        raise ModelError(
            f"'{folder.name}' is no converted model: there is nothing to heal",
            hint="give a folder that 'mla-workbench convert' wrote",
            field=FIELD,
        )
    return folder


def job_healed(settings: Settings, spec: JobSpec) -> str | None:
    """The id of the job whose result `spec` heals; None for a folder from elsewhere."""
    if spec.heal is None:
        return None
    if spec.heal.source.startswith(JOB):
        return spec.heal.source.removeprefix(JOB)
    folder = Path(spec.heal.source)
    is_ours = folder.name == "result" and folder.parent.parent == settings.jobs_dir.absolute()
    return folder.parent.name if is_ours else None
