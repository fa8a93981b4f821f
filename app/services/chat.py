# SPDX-License-Identifier: Apache-2.0
"""Ask up to three models the same thing, read what they answer. A worker answers; the web writes rows."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, ValidationError

from app.services.errors import NotFoundError
from app.services.models import recent_models
from app.services.requests import find_job
from app.services.workbench import Workbench
from core.chat.naming import JOB, folder_of, weight_bytes
from core.errors import SpecError, StateError, WorkbenchError
from core.spec import Frozen
from core.store.chat import new_id
from core.store.chat_views import ChatTurn, Sampling
from core.store.views import JobView, State

MOST_MODELS = 3
# about 25,000 tokens: longer than the context of most models; the rest is a mistake
MOST_CHARACTERS = 100_000
_SESSION = re.compile(r"[2-9a-z]{10}")
# finished jobs offered; older ones can be named by their id
_JOBS = 50


class ChatModel(Frozen):
    """A model one can talk to."""

    model: str = Field(description='"job:ID" for a result, else what a job calls its model')
    job: JobView | None = Field(description="the job that made it; None for an original")
    base: str = Field(description="the original behind it, itself for an original")


def models(workbench: Workbench) -> list[ChatModel]:
    """Originals first, then the results of finished conversions, newest first."""
    done = [
        job
        for job in workbench.store.list(states=[State.DONE], limit=_JOBS)
        if (workbench.result_folder(job.id) / "config.json").is_file()
    ]
    originals = [ChatModel(model=one, job=None, base=one) for one in recent_models(workbench)]
    return originals + [ChatModel(model=f"{JOB}{job.id}", job=job, base=job.spec.model) for job in done]


def job_of(workbench: Workbench, model: str) -> JobView | None:
    """The job behind "job:ID"; None for an original, and for a job that was deleted since."""
    try:
        return find_job(workbench, model.removeprefix(JOB)) if model.startswith(JOB) else None
    except NotFoundError:
        return None


def read_sampling(said: Mapping[str, Any]) -> Sampling:
    """Sampling as a form says it; an empty box keeps the usual value. Raises SpecError naming the field."""
    try:
        return Sampling.model_validate({name: value for name, value in said.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise SpecError(f"{name}: {first['msg']}", hint="see under Sampling", field=name) from error


def ask(
    workbench: Workbench,
    wanted: Sequence[str],
    prompt: str,
    sampling: Sampling,
    conversation: str | None = None,
) -> list[ChatTurn]:
    """Store the prompt for every model and wake a worker; the answers grow in the record.

    Raises SpecError, ModelError or NotFoundError naming the field, and StateError while one is answered.
    """
    if not 1 <= len(wanted) <= MOST_MODELS:
        raise SpecError("choose one to three models", field="models")
    if not prompt.strip():
        raise SpecError("the prompt is empty", hint="write something, or take an example", field="prompt")
    if len(prompt) > MOST_CHARACTERS:
        raise SpecError(
            f"the prompt has {len(prompt):,} characters, more than {MOST_CHARACTERS:,}",
            hint="ask something shorter",
            field="prompt",
        )
    if conversation is not None and not _SESSION.fullmatch(conversation):
        raise SpecError("this is not the id of a conversation", hint="leave it out", field="session")
    for model in wanted:
        _check(workbench, model)
    turns = workbench.store.chat.ask(conversation or new_id(), wanted, prompt, sampling)
    workbench.bell.ring_chat()
    return turns


def _check(workbench: Workbench, model: str) -> None:
    """Refuse now what can be known without weights."""
    if not model.startswith(JOB):
        workbench.facts.read(model, None, workbench.settings)
        return
    job = find_job(workbench, model.removeprefix(JOB))
    if job.state is not State.DONE:
        raise StateError(f"job {job.id} is {job.state}, not done", hint="wait until it is", field="models")
    folder_of(model, workbench.settings)


def read(workbench: Workbench, conversation: str) -> list[ChatTurn]:
    """The whole conversation; raises NotFoundError when there is none."""
    turns = workbench.store.chat.read(conversation)
    if not turns:
        raise NotFoundError(
            f"there is no conversation '{conversation[:32]}'", hint="start a new one", field="session"
        )
    return turns


def stop(workbench: Workbench, conversation: str) -> list[ChatTurn]:
    """End what is being answered; what was written stays."""
    read(workbench, conversation)
    workbench.store.chat.request_stop(conversation)
    return read(workbench, conversation)


def forget(workbench: Workbench, conversation: str) -> None:
    """Delete a conversation."""
    read(workbench, conversation)
    workbench.store.chat.forget(conversation)


def bytes_of(workbench: Workbench, model: str) -> int | None:
    """What a model takes once loaded; None when that cannot be known here, or may not be asked."""
    try:
        if model.startswith(JOB):
            return weight_bytes(folder_of(model, workbench.settings))
        return workbench.facts.read(model, None, workbench.settings).weight_bytes
    except WorkbenchError:
        return None
