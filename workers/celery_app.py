# SPDX-License-Identifier: Apache-2.0
"""The Celery application: `celery -A workers.celery_app worker`.

The database is the record, so Celery only wakes: no result backend, no retries, no revokes. Torch must
never be imported here: a process that forks after torch has computed hangs.
"""

import os
import sys

from celery import Celery

from core.errors import WorkbenchError
from core.settings import Settings, load_settings
from core.store import RUN_QUEUE
from workers import presence

# Redis hands an unacknowledged message out again after this time, to a worker that finds the job claimed.
# A week is longer than any job; the reconciler, not this, brings lost jobs back.
_VISIBILITY_SECONDS = 7 * 24 * 3600


def make_app(settings: Settings) -> Celery:
    """A Celery application for this installation's broker."""
    app = Celery("workers", broker=settings.broker, include=["workers.tasks"])
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_default_queue=RUN_QUEUE,
        task_acks_late=True,
        worker_pool="prefork",
        worker_concurrency=settings.concurrency,
        worker_prefetch_multiplier=1,
        # the process of a job outlives a broker that restarts; its end is written to the database
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": _VISIBILITY_SECONDS,
            "socket_keepalive": True,
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.2,
            "interval_max": 1,
        },
        worker_hijack_root_logger=True,
        worker_redirect_stdouts=False,
    )
    return app


os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
try:
    _settings = load_settings()
except WorkbenchError as error:
    # Celery imports this module: a message instead of its traceback
    sys.exit(f"error: {error}")
app = make_app(_settings)
presence.connect(presence.Presence(_settings, app))
