# SPDX-License-Identifier: Apache-2.0
"""Every error is the same three words of JSON: error, hint, field."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from app.services.errors import ForbiddenError, GoneError, NotFoundError, TooLargeError
from core.errors import StateError, WorkbenchError
from core.store import DatabaseUnavailable

_STATUS: tuple[tuple[type[WorkbenchError], int], ...] = (
    (ForbiddenError, 403),
    (NotFoundError, 404),
    (GoneError, 410),
    (TooLargeError, 413),
    (StateError, 409),
    (DatabaseUnavailable, 503),
    (WorkbenchError, 422),
)


class ErrorBody(BaseModel):
    """What went wrong and what to change."""

    error: str = Field(description="one sentence for a human")
    hint: str = Field("", description="what to change")
    field: str | None = Field(None, description='the JobSpec field it belongs to, e.g. "keep"')


ERRORS: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorBody, "description": "no such job or file"},
    409: {"model": ErrorBody, "description": "the job cannot make this step from its state"},
    422: {"model": ErrorBody, "description": "the request cannot be carried out as it is"},
}


def install_error_handlers(app: FastAPI) -> None:
    """Turn every error a user can act on into ErrorBody with a fitting status."""
    app.add_exception_handler(WorkbenchError, _workbench_error)
    app.add_exception_handler(RequestValidationError, _validation_error)


def error_response(error: WorkbenchError) -> JSONResponse:
    """ErrorBody with the status that fits the error."""
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    return _answer(status, error.message, error.hint, error.field)


async def _workbench_error(request: Request, error: Exception) -> JSONResponse:
    del request
    assert isinstance(error, WorkbenchError)
    return error_response(error)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    del request
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    # "body" or "query" comes first and is not part of the field's name
    field = ".".join(str(part) for part in first["loc"][1:])
    return _answer(422, f"{field}: {first['msg']}" if field else first["msg"], "see /api/openapi.json", field)


def _answer(status: int, error: str, hint: str, field: str | None) -> JSONResponse:
    body = ErrorBody(error=error, hint=hint, field=field or None)
    return JSONResponse(body.model_dump(), status_code=status)
