# SPDX-License-Identifier: Apache-2.0
"""The uploaded texts as a user sees them: with their tokens, what uses them, and what deleting gives back."""

from datetime import datetime
from pathlib import Path

from pydantic import Field

from app.services import uploads
from app.services.text_names import texts_of
from app.services.uploads import UploadedText
from app.services.workbench import Workbench
from core.errors import WorkbenchError
from core.quota import file_bytes
from core.spec import Frozen
from core.store.views import FINAL, JobView


class StoredText(Frozen):
    """One upload and the jobs that read it, newest first."""

    name: str
    path: str = Field(exclude=True, description="what a spec calls its content")
    bytes: int = Field(description="what deleting it gives back: none while another name has the content")
    uploaded_at: datetime
    jobs: tuple[str, ...] = Field(description="ids of the jobs that read it")
    needed_by: tuple[str, ...] = Field(description="those of them that have not ended: it cannot be deleted")


def uploaded_for(workbench: Workbench, model: str) -> list[UploadedText]:
    """Uploads, newest first, with their tokens when the tokenizer of `model` can be read."""
    texts = uploads.uploaded(workbench.settings)
    folder = _folder_of(workbench, model) if texts and model else None
    return [_counted(workbench, text, folder) for text in texts]


def _folder_of(workbench: Workbench, model: str) -> Path | None:
    try:
        return Path(workbench.facts.read(model, None, workbench.settings).folder)
    except WorkbenchError:
        # what is wrong with the model is said beside the model
        return None


def _counted(workbench: Workbench, text: UploadedText, folder: Path | None) -> UploadedText:
    path = uploads.path_of(workbench.settings, text)
    found = workbench.tokens.count(folder, path) if folder and path.is_file() else None
    if found is None:
        return text
    return text.model_copy(
        update={"tokens": found.tokens, "tokens_are": "counted" if found.is_exact else "estimated"}
    )


def stored_texts(workbench: Workbench) -> tuple[StoredText, ...]:
    """Every upload, newest first, with what uses it."""
    texts = uploads.uploaded(workbench.settings)
    if not texts:
        return ()
    jobs = _jobs(workbench)
    reads = {job.id: texts_of(job.spec) for job in jobs}
    found = []
    for text in texts:
        path = uploads.path_of(workbench.settings, text)
        users = [job for job in jobs if str(path) in reads[job.id]]
        is_alone = sum(one.sha256 == text.sha256 for one in texts) == 1
        found.append(
            StoredText(
                name=text.name,
                path=str(path),
                bytes=file_bytes(path) if is_alone else 0,
                uploaded_at=text.uploaded_at,
                jobs=tuple(job.id for job in users),
                needed_by=tuple(job.id for job in users if job.state not in FINAL),
            )
        )
    return tuple(found)


def remove(workbench: Workbench, name: str) -> None:
    """Forget an upload; raises NotFoundError, or StateError while a job that has not ended needs it."""
    waiting = (job for job in _jobs(workbench) if job.state not in FINAL)
    uploads.remove(workbench.settings, name, {text for job in waiting for text in texts_of(job.spec)})
    workbench.disk.forget()


def _jobs(workbench: Workbench) -> list[JobView]:
    return workbench.store.list(limit=max(1, workbench.store.count()))
