# SPDX-License-Identifier: Apache-2.0
"""REST under /api/v1: the same JobSpec as the form, the command line and the database."""

from fastapi import APIRouter

from app.api import catalogue, compare, figures, files, jobs, queue
from app.api.errors import ERRORS

PREFIX = "/api/v1"


def make_router() -> APIRouter:
    """Every route of the API."""
    router = APIRouter(prefix=PREFIX, responses=ERRORS)
    for part in (catalogue.router, jobs.router, files.router, figures.router, compare.router, queue.router):
        router.include_router(part)
    return router


__all__ = ["PREFIX", "make_router"]
