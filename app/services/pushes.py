# SPDX-License-Identifier: Apache-2.0
"""Start a push in a thread of the web process."""

import threading

from app.services.downloads import find_file
from app.services.errors import NotFoundError
from app.services.push import push
from app.services.push_state import PushState
from app.services.requests import find_job
from app.services.workbench import Workbench
from core.errors import WorkbenchError
from core.store.views import State


def start_push(workbench: Workbench, job_id: str, repo: str, token: str, *, private: bool) -> PushState:
    """Push the result of a finished job in the background; raises when there is none, or no token."""
    job = find_job(workbench, job_id)
    if job.state is not State.DONE or not job.spec.makes_model:
        raise NotFoundError(
            f"job {job_id} has no model to push", hint="only a finished conversion can be pushed"
        )
    if not token.strip():
        raise WorkbenchError(
            "a push needs a token",
            hint="make one with write access under Settings, Access Tokens",
            field="token",
        )
    names = [artefact.name for artefact in workbench.store.artefacts(job_id)]
    files = [(name, find_file(workbench, job_id, name)[1]) for name in names]
    total = sum(path.stat().st_size for _, path in files)
    state = PushState(job_id=job_id, repo=repo.strip(), state="running", total_bytes=total)
    workbench.pushes.begin(state)

    def run() -> None:
        def report(name: str, done: int) -> None:
            workbench.pushes.update(job_id, file=name, done_bytes=done)

        try:
            address = push(files, state.repo, token.strip(), private=private, report=report)
        except WorkbenchError as error:
            workbench.pushes.update(job_id, state="failed", error=error.message, hint=error.hint)
        except BaseException as error:
            # a thread that dies in silence would leave the page waiting
            workbench.pushes.update(job_id, state="failed", error=type(error).__name__, hint="push again")
            raise
        else:
            workbench.pushes.update(job_id, state="done", done_bytes=total, file="", address=address)

    # a daemon: a server that stops does not wait for the Hub, and a push can be repeated
    threading.Thread(target=run, name=f"push-{job_id}", daemon=True).start()
    return state
