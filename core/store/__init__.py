# SPDX-License-Identifier: Apache-2.0
"""The record of every job. Only this package and migrations/ know the database."""

from core.store.bell import RUN_QUEUE, RUN_TASK, Bell
from core.store.chat_record import CHAT_QUEUE, CHAT_TASK, ChatRecord
from core.store.jobs import new_id
from core.store.leases import Lease
from core.store.presence import WorkerView
from core.store.session import DatabaseUnavailable
from core.store.store import Store, open_store, reconcile

__all__ = [
    "CHAT_QUEUE",
    "CHAT_TASK",
    "RUN_QUEUE",
    "RUN_TASK",
    "Bell",
    "ChatRecord",
    "DatabaseUnavailable",
    "Lease",
    "Store",
    "WorkerView",
    "new_id",
    "open_store",
    "reconcile",
]
