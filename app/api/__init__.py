# SPDX-License-Identifier: Apache-2.0
"""REST under /api/v1: the same JobSpec as the form, the command line and the database."""

from fastapi import APIRouter

from app.api import catalogue, chat, compare, figures, files, jobs, push, queue, sweeps, texts, tuning
from app.api.errors import ERRORS

PREFIX = "/api/v1"


def make_router() -> APIRouter:
    """Every route of the API."""
    router = APIRouter(prefix=PREFIX, responses=ERRORS)
    parts = (catalogue, tuning, jobs, files, figures, compare, queue, push, sweeps, chat, texts)
    for part in parts:
        router.include_router(part.router)
    return router


__all__ = ["PREFIX", "make_router"]
