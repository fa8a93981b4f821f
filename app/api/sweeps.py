# SPDX-License-Identifier: Apache-2.0
"""Sweeps: what one would do, starting it, watching it, cancelling it."""

from fastapi import APIRouter, Response

from app.api.access import Bench
from app.services import sweeps
from app.services.sweeps import SweepPreview, SweepRequest, SweepView

router = APIRouter(prefix="/sweeps", tags=["sweeps"])


@router.post("/preview")
def preview(bench: Bench, request: SweepRequest) -> SweepPreview:
    """Bytes, predicted loss and estimated time of every job; nothing is stored."""
    return sweeps.preview(bench, request)


@router.post("", status_code=201)
def submit(bench: Bench, request: SweepRequest, response: Response) -> SweepView:
    """Queue every preset at every budget, with one calibration for all; all of them or, with 422, none."""
    sweep = sweeps.submit_sweep(bench, request)
    response.headers["Location"] = f"/api/v1/sweeps/{sweep.id}"
    return sweep


@router.get("/{sweep_id}")
def get_sweep(bench: Bench, sweep_id: str) -> SweepView:
    """The jobs of the sweep with their numbers, and when the last is expected to end."""
    return sweeps.find_sweep(bench, sweep_id)


@router.post("/{sweep_id}/cancel")
def cancel(bench: Bench, sweep_id: str) -> SweepView:
    """Cancel what has not ended; finished jobs stay."""
    return sweeps.cancel_sweep(bench, sweep_id)
