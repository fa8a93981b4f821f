# SPDX-License-Identifier: Apache-2.0
"""How our Celery applications are set up: Celery only wakes, so no result backend, no retries, no revokes."""

from celery import Celery

from core.settings import Settings
from core.store import CHAT_QUEUE, RUN_QUEUE

# Redis hands an unacknowledged message out again after this time, to a worker that finds the job claimed.
# A week is longer than any job; the reconciler, not this, brings lost jobs back.
_VISIBILITY_SECONDS = 7 * 24 * 3600


def make_app(settings: Settings) -> Celery:
    """The application whose workers run jobs."""
    app = _base(settings, "workers.tasks", RUN_QUEUE)
    app.conf.update(worker_pool="prefork", worker_concurrency=settings.concurrency)
    return app


def make_chat_app(settings: Settings) -> Celery:
    """The application whose worker answers: threads, since it forks nothing and computes nothing itself.

    One thread stays with the process that answers; the other hears the bell meanwhile and finds it there.
    """
    app = _base(settings, "workers.chat_tasks", CHAT_QUEUE)
    app.conf.update(worker_pool="threads", worker_concurrency=2)
    return app


def _base(settings: Settings, tasks: str, queue: str) -> Celery:
    """A Celery application for this installation's broker."""
    app = Celery("workers", broker=settings.broker, include=[tasks])
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_default_queue=queue,
        task_acks_late=True,
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
