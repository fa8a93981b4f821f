# SPDX-License-Identifier: Apache-2.0
"""The Celery application of the chat: `celery -A workers.chat_app worker`.

A worker of its own, so that an answer never waits behind a conversion. Torch must never be imported here:
while nobody chats this process is all there is.
"""

import sys
import threading
from typing import Any

from celery import signals

from core.errors import WorkbenchError
from core.settings import load_settings
from workers.application import make_chat_app

try:
    _settings = load_settings()
except WorkbenchError as error:
    # Celery imports this module: a message instead of its traceback
    sys.exit(f"error: {error}")
app = make_chat_app(_settings)
# set when the worker is told to stop; its threads see it, since they are of this process
stopping = threading.Event()


def _stop(**ignored: Any) -> None:
    del ignored
    stopping.set()


signals.worker_shutting_down.connect(_stop, weak=False)
