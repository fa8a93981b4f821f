# SPDX-License-Identifier: Apache-2.0
"""A worker's signs of life, and the look after lost jobs that goes with each."""

import logging
import os
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from celery import Celery, signals
from kombu.exceptions import OperationalError

from core.errors import WorkbenchError
from core.settings import Settings
from core.store import RUN_TASK, open_store, reconcile

logger = logging.getLogger(__name__)

BEAT_SECONDS = 5.0


class Presence:
    """Answers Celery's signals in the worker's main process.

    The store is opened and closed for every beat: a connection must not be open when Celery forks.
    """

    def __init__(self, settings: Settings, app: Celery) -> None:
        self._settings = settings
        self._app = app
        self._next_beat = 0.0

    def ring(self, job_id: str) -> bool:
        """The reconciler's bell: the worker's own application sends the message."""
        try:
            self._app.send_task(RUN_TASK, args=[job_id], retry=False)
        except (OperationalError, OSError) as error:
            logger.warning("job %s waits, the broker cannot be reached: %s", job_id, error)
            return False
        return True

    def ready(self, sender: Any, **ignored: Any) -> None:
        """The worker takes jobs from now on."""
        del ignored
        with closing(open_store(self._settings)) as store:
            store.worker_arrived(sender.hostname, device(), self._settings.concurrency)

    def beat(self, sender: Any, **ignored: Any) -> None:
        """Every few seconds, from Celery's own timer."""
        del ignored
        at = time.monotonic()
        if at < self._next_beat:
            return
        self._next_beat = at + BEAT_SECONDS
        try:
            with closing(open_store(self._settings)) as store:
                store.worker_seen(sender.eventer.hostname, device(), self._settings.concurrency)
                reconcile(store, self)
        except WorkbenchError as error:
            logger.warning("no sign of life this time: %s", error)

    def stopping(self, sender: str, **ignored: Any) -> None:
        """Ask the supervisors to give their jobs back. Celery itself would wait for hours.

        This runs inside a signal handler, which may have interrupted a transaction of our own: a thread can
        wait for that one to end, the handler cannot.
        """
        del ignored
        threading.Thread(target=self._ask_to_stop, args=(sender,)).start()

    def gone(self, sender: Any, **ignored: Any) -> None:
        """The worker has ended in good order."""
        del ignored
        with closing(open_store(self._settings)) as store:
            store.worker_gone(sender.hostname)

    def _ask_to_stop(self, name: str) -> None:
        with closing(open_store(self._settings)) as store:
            store.ask_worker_to_stop(name)


def connect(presence: Presence) -> None:
    """Let Celery tell `presence` what happens."""
    signals.worker_ready.connect(presence.ready, weak=False)
    signals.heartbeat_sent.connect(presence.beat, weak=False)
    signals.worker_shutting_down.connect(presence.stopping, weak=False)
    signals.worker_shutdown.connect(presence.gone, weak=False)


def device() -> str:
    """What jobs of this worker compute on, told without importing torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen:
        return f"cuda:{chosen}"
    if chosen is None and Path("/dev/nvidiactl").exists():
        return "cuda"
    return f"cpu ({os.cpu_count()} cores)"
