# SPDX-License-Identifier: Apache-2.0
"""Downloads: each file and one tar, both resumable, and the checksums of all."""

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse

from app.api.access import Bench
from app.api.ranges import RangeError, read_range
from app.services import downloads
from core.store.views import StoredArtefact

router = APIRouter(prefix="/jobs/{job_id}", tags=["downloads"])


@router.get("/files")
def list_files(bench: Bench, job_id: str) -> list[StoredArtefact]:
    """Every file of the result with its size and SHA-256."""
    return downloads.files_of(bench, job_id)


@router.get("/files/{name:path}", response_class=FileResponse)
@router.head("/files/{name:path}", include_in_schema=False)
def get_file(bench: Bench, job_id: str, name: str) -> FileResponse:
    """One registered file. Answers Range with 206; the ETag is its SHA-256."""
    artefact, path = downloads.find_file(bench, job_id, name)
    return FileResponse(path, filename=path.name, headers={"ETag": f'"{artefact.sha256}"'})


@router.get("/checksums", response_class=PlainTextResponse)
def get_checksums(bench: Bench, job_id: str) -> PlainTextResponse:
    """Input for `sha256sum --check` inside the unpacked folder."""
    headers = {"Content-Disposition": f'attachment; filename="{job_id}.sha256"'}
    return PlainTextResponse(downloads.checksums(bench, job_id), headers=headers)


@router.get("/archive", response_class=StreamingResponse)
@router.head("/archive", include_in_schema=False)
def get_archive(
    bench: Bench,
    job_id: str,
    request: Request,
    range_header: Annotated[str | None, Header(alias="range")] = None,
    if_range: Annotated[str | None, Header()] = None,
) -> Response:
    """All files as one uncompressed tar, streamed. Answers Range with 206; offsets never change."""
    archive = downloads.archive_of(bench, job_id)
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{archive.name}.tar"',
        "ETag": archive.etag,
    }
    start, stop, status = 0, archive.size, 200
    if range_header and if_range in (None, archive.etag):
        try:
            wanted = read_range(range_header, archive.size)
        except RangeError:
            return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{archive.size}"})
        if wanted is not None:
            (start, stop), status = wanted, 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{archive.size}"
    headers["Content-Length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type="application/x-tar")
    return StreamingResponse(archive.read(start, stop), status, headers, media_type="application/x-tar")
