# SPDX-License-Identifier: Apache-2.0
"""Jobs: submit, look, cancel, resume, delete, and what they said."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from app.api.access import Bench
from app.services import requests
from app.services.logs import read_tail
from core.spec import JobSpec
from core.store.views import JobView, State, StoredEvent, StoredMetric

router = APIRouter(prefix="/jobs", tags=["jobs"])


class JobList(BaseModel):
    """One page of jobs, newest first."""

    jobs: list[JobView]
    total: int = Field(description="how many there are without limit and offset")


class EventPage(BaseModel):
    """Events in order; ask again with `after=cursor`."""

    events: list[StoredEvent]
    cursor: int


class Retry(BaseModel):
    """Which of the changes a failed job offers."""

    fix: int = Field(0, ge=0, description="place in `fixes` of the job, counted from 0")


@router.post("", status_code=201)
def submit(
    bench: Bench,
    spec: JobSpec,
    response: Response,
    parent_id: Annotated[str | None, Query(max_length=16, description="the job this is a clone of")] = None,
) -> JobView:
    """Queue a job. A named preset fills what the body does not say. 422 when it cannot work."""
    job = requests.submit(bench, spec.model_dump(exclude_unset=True), parent_id=parent_id)
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return job


@router.get("")
def list_jobs(
    bench: Bench,
    state: Annotated[list[State] | None, Query(description="may be given several times")] = None,
    text: Annotated[str, Query(description="part of the model, preset or id")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> JobList:
    """Jobs, newest first."""
    jobs = bench.store.list(states=state, text=text, limit=limit, offset=offset)
    return JobList(jobs=jobs, total=bench.store.count(states=state, text=text))


@router.get("/{job_id}")
def get_job(bench: Bench, job_id: str) -> JobView:
    """One job as stored: its spec, state, progress and numbers."""
    return requests.find_job(bench, job_id)


@router.post("/{job_id}/cancel")
def cancel(bench: Bench, job_id: str) -> JobView:
    """Stop at the end of the current layer; finished layers are kept."""
    return requests.cancel(bench, job_id)


@router.post("/{job_id}/pause")
def pause(bench: Bench, job_id: str) -> JobView:
    """Rest: at once when it waits, at the end of the current layer when it runs. Resume continues."""
    return requests.pause(bench, job_id)


@router.post("/{job_id}/resume")
def resume(bench: Bench, job_id: str) -> JobView:
    """Queue a cancelled, failed, interrupted or paused job again; finished layers are not done twice."""
    return requests.resume(bench, job_id)


@router.post("/{job_id}/retry", status_code=201)
def retry(bench: Bench, job_id: str, body: Retry, response: Response) -> JobView:
    """A new job like the failed one, with one of the changes it offers."""
    job = requests.retry(bench, job_id, body.fix)
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return job


@router.delete("/{job_id}", status_code=204)
def delete(bench: Bench, job_id: str) -> None:
    """Forget a job that no worker will touch and remove its files."""
    requests.delete(bench, job_id)


@router.get("/{job_id}/events")
def events(
    bench: Bench,
    job_id: str,
    after: Annotated[int, Query(ge=0, description="the cursor of the previous answer")] = 0,
    limit: Annotated[int, Query(ge=1, le=5000)] = 500,
) -> EventPage:
    """What the job emitted since the cursor."""
    requests.find_job(bench, job_id)
    found = bench.store.events_after(job_id, after, limit)
    return EventPage(events=found, cursor=found[-1].id if found else after)


@router.get("/{job_id}/log", response_class=PlainTextResponse)
def log(
    bench: Bench, job_id: str, tail: Annotated[int, Query(ge=1, le=16_000_000)] = 1_000_000
) -> PlainTextResponse:
    """The last `tail` bytes of what the job's process printed."""
    requests.find_job(bench, job_id)
    return PlainTextResponse(read_tail(bench.log_file(job_id), tail))


@router.get("/{job_id}/metrics")
def metrics(bench: Bench, job_id: str) -> list[StoredMetric]:
    """The numbers of the job with unit and source."""
    requests.find_job(bench, job_id)
    return bench.store.metrics(job_id)


@router.get("/{job_id}/figures")
def figures(bench: Bench, job_id: str) -> dict[str, dict[str, Any]]:
    """The data behind every plot and table, by name."""
    requests.find_job(bench, job_id)
    return bench.store.figures(job_id)
