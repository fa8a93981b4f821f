# SPDX-License-Identifier: Apache-2.0
"""The files of a finished result: described once, by the process that wrote them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core.store.tables import ArtefactRow
from core.store.views import StoredArtefact


def describe(folder: Path) -> list[StoredArtefact]:
    """Name, size and SHA-256 of every file under `folder`, in name order."""
    return [_describe_file(path, folder) for path in sorted(folder.rglob("*")) if path.is_file()]


def replace(session: Session, job_id: str, artefacts: Iterable[StoredArtefact]) -> None:
    """Make `artefacts` the files of the job."""
    session.execute(delete(ArtefactRow).where(ArtefactRow.job_id == job_id))
    session.add_all(ArtefactRow(job_id=job_id, **artefact.model_dump()) for artefact in artefacts)


def read(session: Session, job_id: str) -> list[StoredArtefact]:
    """The files of the job in name order; none before it is done."""
    rows = session.scalars(select(ArtefactRow).where(ArtefactRow.job_id == job_id).order_by(ArtefactRow.name))
    return [StoredArtefact(name=row.name, size=row.size, sha256=row.sha256) for row in rows]


def _describe_file(path: Path, folder: Path) -> StoredArtefact:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return StoredArtefact(name=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=digest)
