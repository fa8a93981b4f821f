# SPDX-License-Identifier: Apache-2.0
"""The one task: a message carries a job's id and nothing else."""

from celery import Task

from core.settings import load_settings
from core.store import RUN_TASK
from workers.celery_app import app
from workers.supervisor import supervise


@app.task(name=RUN_TASK, bind=True)  # type: ignore[untyped-decorator]  # celery ships no types
def run(self: Task, job_id: str) -> None:
    """Supervise the job, if it still waits."""
    supervise(load_settings(), job_id, self.request.hostname)
