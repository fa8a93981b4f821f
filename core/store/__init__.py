# SPDX-License-Identifier: Apache-2.0
"""The record of every job. Only this package and migrations/ know the database."""

from core.store import chat_record  # noqa: F401
from core.store.bell import RUN_QUEUE, RUN_TASK, Bell
from core.store.leases import Lease
from core.store.presence import WorkerView
from core.store.session import DatabaseUnavailable
from core.store.store import Store, open_store, reconcile

__all__ = [
    "RUN_QUEUE",
    "RUN_TASK",
    "Bell",
    "DatabaseUnavailable",
    "Lease",
    "Store",
    "WorkerView",
    "open_store",
    "reconcile",
]
