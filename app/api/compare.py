# SPDX-License-Identifier: Apache-2.0
"""Finished jobs side by side."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.api.access import Bench
from app.api.figures import Kind, as_download
from app.services.compare import Comparison, compare_jobs, layers_table

router = APIRouter(tags=["compare"])

Jobs = Annotated[str, Query(description="ids of finished jobs, with commas between them, up to 6")]


@router.get("/compare")
def compare(bench: Bench, jobs: Jobs = "") -> Comparison:
    """What differs in their specs, their figures with the best marked, layers and samples."""
    return compare_jobs(bench, ids_of(jobs))


@router.get("/compare/figures/layers.{kind}", response_class=Response)
def layers(bench: Bench, kind: Kind, jobs: Jobs = "") -> Response:
    """Widths and errors of every layer of every job."""
    return as_download(layers_table(compare_jobs(bench, ids_of(jobs))), kind, "compare")


def ids_of(text: str) -> list[str]:
    """The ids of `?jobs=a,b,c`."""
    return [one.strip() for one in text.split(",") if one.strip()]
