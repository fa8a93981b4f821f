# SPDX-License-Identifier: Apache-2.0
"""The files of a finished job: only what was registered can be fetched, so no name leads elsewhere."""

import hashlib
import string
from pathlib import Path

from app.services.archive import Archive, lay_out
from app.services.card import NAME as CARD
from app.services.card import current_card
from app.services.errors import GoneError, NotFoundError
from app.services.requests import find_job
from app.services.workbench import Workbench
from core.store.views import JobView, State, StoredArtefact

# an HTTP header carries the name: what `isalnum` calls a letter may not be one there
_PLAIN = frozenset(string.ascii_letters + string.digits + "-._")


def files_of(workbench: Workbench, job_id: str) -> list[StoredArtefact]:
    """Every file of the job's result as it can be fetched now; empty before it is done."""
    find_job(workbench, job_id)
    return [_now(workbench, job_id, one)[0] for one in workbench.store.artefacts(job_id)]


def find_file(workbench: Workbench, job_id: str, name: str) -> tuple[StoredArtefact, Path]:
    """A registered file and where it is; raises NotFoundError, or GoneError when the disk disagrees."""
    find_job(workbench, job_id)
    for artefact in workbench.store.artefacts(job_id):
        if artefact.name == name:
            _on_disk(workbench, job_id, artefact)
            return _now(workbench, job_id, artefact)
    raise NotFoundError(
        f"job {job_id} has no file '{name}'", hint=f"see /api/v1/jobs/{job_id}/files", field="name"
    )


def checksums(workbench: Workbench, job_id: str) -> str:
    """Lines that `sha256sum --check` reads inside the unpacked folder."""
    return "".join(f"{one.sha256}  {one.name}\n" for one in files_of(workbench, job_id))


def archive_of(workbench: Workbench, job_id: str) -> Archive:
    """The layout of one tar with every file; raises NotFoundError before the job is done."""
    job = find_job(workbench, job_id)
    if job.state is not State.DONE:
        raise NotFoundError(
            f"job {job_id} is {job.state}, there is no result yet", hint="wait until it is done"
        )
    artefacts = workbench.store.artefacts(job_id)
    for one in artefacts:
        _on_disk(workbench, job_id, one)
    return lay_out(archive_name(job), [_now(workbench, job_id, one) for one in artefacts])


def archive_name(job: JobView) -> str:
    """Folder inside the tar and stem of its file name: the model's last part and the job."""
    stem = "".join(char if char in _PLAIN else "-" for char in Path(job.spec.model).name)
    return f"{stem.strip('.-') or 'model'}-mla-{job.id}"


def _now(workbench: Workbench, job_id: str, artefact: StoredArtefact) -> tuple[StoredArtefact, Path]:
    """The file as registered, or the model card with what was measured since."""
    path = workbench.result_folder(job_id) / artefact.name
    if artefact.name != CARD or not path.is_file():
        return artefact, path
    card = current_card(workbench, job_id, path)
    if card == path:
        return artefact, path
    content = card.read_bytes()
    changes = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return artefact.model_copy(update=changes), card


def _on_disk(workbench: Workbench, job_id: str, artefact: StoredArtefact) -> None:
    """Raise GoneError unless the registered file is there as it was written."""
    folder = workbench.result_folder(job_id).resolve()
    path = (folder / artefact.name).resolve()
    if not path.is_relative_to(folder) or not path.is_file() or path.stat().st_size != artefact.size:
        raise GoneError(
            f"'{artefact.name}' is not on disk as it was written",
            hint="run the conversion again; its result folder was changed or removed",
            field="name",
        )
