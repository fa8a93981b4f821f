# SPDX-License-Identifier: Apache-2.0
"""The data behind every plot, as a table: CSV for a spreadsheet, JSON for a script."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from app.api.access import Bench
from app.services.figure_table import FigureTable
from app.services.job_tables import job_table
from app.services.model_tables import model_table
from core.presets import DEFAULT_PRESET

router = APIRouter(tags=["figures"])

Kind = Literal["csv", "json"]


@router.get("/jobs/{job_id}/figures/{name}.{kind}", response_class=Response)
def job_figure(bench: Bench, job_id: str, name: str, kind: Kind) -> Response:
    """rope_contribution, layers or kv_memory of a finished job."""
    return as_download(job_table(bench, job_id, name), kind, job_id)


@router.get("/models/figures/{name}.{kind}", response_class=Response)
def model_figure(
    bench: Bench,
    name: str,
    kind: Kind,
    model: Annotated[str, Query(min_length=1, description="a local folder, a Hub id, or demo")],
    preset: str = DEFAULT_PRESET,
) -> Response:
    """kv_memory, pareto, frontier; of its profile spectrum, sensitivity, contribution, damage."""
    return as_download(model_table(bench, model, name, preset), kind, model)


def as_download(table: FigureTable, kind: Kind, stem: str) -> Response:
    """A file called after what it is of."""
    name = "".join(char if char.isascii() and char.isalnum() else "-" for char in f"{stem}-{table.name}")
    headers = {"Content-Disposition": f'attachment; filename="{name.strip("-")}.{kind}"'}
    if kind == "csv":
        return Response(table.as_csv(), headers=headers, media_type="text/csv; charset=utf-8")
    return Response(table.model_dump_json(), headers=headers, media_type="application/json")
