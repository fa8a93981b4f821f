# SPDX-License-Identifier: Apache-2.0
"""Push a result to the Hub, and see how far it is."""

from fastapi import APIRouter
from pydantic import BaseModel, Field, SecretStr

from app.api.access import Bench
from app.services.errors import NotFoundError
from app.services.push_state import PushState
from app.services.pushes import start_push
from app.services.requests import find_job

router = APIRouter(prefix="/jobs/{job_id}/push", tags=["push"])


class PushBody(BaseModel):
    """Where to, and with what."""

    repo: str = Field(
        min_length=1, max_length=200, description="owner/name on the Hub; made when it is not there"
    )
    token: SecretStr = Field(description="kept in memory for this push, stored nowhere")
    private: bool = Field(True, description="of a repository that is made")


@router.post("", status_code=202)
def start(bench: Bench, job_id: str, body: PushBody) -> PushState:
    """Start, or continue after an interruption. 409 while a push of this job goes on."""
    return start_push(bench, job_id, body.repo, body.token.get_secret_value(), private=body.private)


@router.get("")
def look(bench: Bench, job_id: str) -> PushState:
    """How the last push of this job stands; 404 when there was none since the server started."""
    find_job(bench, job_id)
    state = bench.pushes.state_of(job_id)
    if state is None:
        raise NotFoundError(f"job {job_id} was not pushed", hint="POST repo and token here", field="job_id")
    return state
