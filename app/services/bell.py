# SPDX-License-Identifier: Apache-2.0
"""Tell the workers that a job waits. A broker that is away delays the job, it never fails the request."""

import logging
from typing import Protocol

from celery import Celery
from kombu.exceptions import OperationalError

from core.settings import Settings
from core.store import CHAT_QUEUE, CHAT_TASK, RUN_QUEUE, RUN_TASK

logger = logging.getLogger(__name__)

# one try and one more for a connection that went stale: the page waits less than a second at worst
_TIMEOUT = 0.3
_RETRY = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}


class WebBell(Protocol):
    """What the web wakes others with; False when the message could not be sent."""

    def ring(self, job_id: str) -> bool: ...

    def ring_chat(self) -> bool: ...


class CeleryBell:
    """Sends the task by its name, so that the web needs nothing of the workers' code."""

    def __init__(self, settings: Settings) -> None:
        self._celery = Celery("bell", broker=settings.broker, set_as_current=False)
        self._celery.conf.update(
            task_serializer="json",
            task_ignore_result=True,
            task_default_queue=RUN_QUEUE,
            broker_connection_timeout=_TIMEOUT,
            broker_transport_options={
                "socket_timeout": _TIMEOUT,
                "socket_connect_timeout": _TIMEOUT,
                "retry_on_timeout": False,
                **_RETRY,
            },
        )

    def ring(self, job_id: str) -> bool:
        """False when the broker is away: the row stays queued and the reconciler rings again."""
        return self._send(RUN_TASK, RUN_QUEUE, [job_id])

    def ring_chat(self) -> bool:
        """Somebody waits for an answer. False when the broker is away; the reconciler rings again."""
        return self._send(CHAT_TASK, CHAT_QUEUE, [])

    def _send(self, task: str, queue: str, args: list[str]) -> bool:
        try:
            self._celery.send_task(task, args=args, queue=queue, retry=True, retry_policy=_RETRY)
        except (OperationalError, OSError) as error:
            logger.warning("%s %s waits, the broker cannot be reached: %s", task, " ".join(args), error)
            return False
        return True

    def close(self) -> None:
        """Give up the connection."""
        self._celery.close()
