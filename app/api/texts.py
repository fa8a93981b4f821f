# SPDX-License-Identifier: Apache-2.0
"""Texts to calibrate and evaluate on: upload, list, delete. No route gives a text back."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from app.api.access import Bench
from app.api.same_origin import same_origin
from app.services import upload_list, uploads
from app.services.incoming import MEGABYTE, Incoming, too_large
from app.services.uploads import UploadedText
from core.errors import TextError

router = APIRouter(prefix="/texts", tags=["texts"], dependencies=[Depends(same_origin)])
_CHUNK = 1 << 20
# boundaries and headers around the file of a form
_FORM_BYTES = 16_384
_BODY = {
    "content": {
        "text/plain": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    "name": {"type": "string"},
                },
            }
        },
    },
    "required": True,
}


@router.post(
    "",
    status_code=201,
    openapi_extra={"requestBody": _BODY},
    responses={413: {"description": "larger than MLA_UPLOAD_MB"}},
)
async def upload(
    bench: Bench,
    request: Request,
    response: Response,
    name: Annotated[str, Query(description="what to call it; default: the name of the file of a form")] = "",
) -> UploadedText:
    """Store a text: the body as it is, or the field "file" of a form. Used as "upload:NAME"."""
    most = bench.settings.upload_mb * MEGABYTE
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > most + _FORM_BYTES:
        raise too_large(most)
    with Incoming(bench.settings) as incoming:
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            name = await _read_form(request, incoming, name, most)
        else:
            async for chunk in request.stream():
                incoming.write(chunk)
        if not name:
            raise TextError("the text has no name", hint="add ?name=…", field="name")
        text = await run_in_threadpool(uploads.store, bench.settings, name, incoming)
    bench.disk.forget()
    response.headers["Location"] = "/api/v1/texts"
    return text


async def _read_form(request: Request, incoming: Incoming, name: str, most: int) -> str:
    """The file of a form into `incoming`; returns the name it is to have."""
    limited = Request(request.scope, _at_most(request.receive, most + _FORM_BYTES, most))
    try:
        async with limited.form(max_files=1, max_fields=4) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise TextError("the form has no file", hint="send it as the field 'file'", field="file")
            async for chunk in _chunks(file):
                incoming.write(chunk)
            called = form.get("name")
            return (
                name
                or (called if isinstance(called, str) else "")
                or uploads.name_of_file(file.filename or "")
            )
    except HTTPException as error:
        raise TextError(
            f"the form cannot be read: {error.detail}", hint="send one file", field="file"
        ) from error


async def _chunks(file: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await file.read(_CHUNK):
        yield chunk


def _at_most(receive: Receive, limit: int, most: int) -> Receive:
    """`receive` that stops a body of unknown length before it fills the disk."""
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise too_large(most)
        return message

    return limited


@router.get("")
def list_texts(
    bench: Bench,
    model: Annotated[str, Query(description="count tokens with the tokenizer of this model")] = "",
) -> list[UploadedText]:
    """Uploaded texts, newest first."""
    return upload_list.uploaded_for(bench, model)


@router.delete("/{name}", status_code=204)
def delete_text(bench: Bench, name: str) -> None:
    """Forget a text. 409 while a job that has not ended needs it."""
    upload_list.remove(bench, name)
