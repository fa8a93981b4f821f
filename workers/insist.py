# SPDX-License-Identifier: Apache-2.0
"""Patience with a database that restarts."""

import time
from collections.abc import Callable
from typing import TypeVar

from core.store import DatabaseUnavailable

T = TypeVar("T")


def insist(call: Callable[[], T], seconds: float) -> T:
    """`call()`, tried again while the database is away, for `seconds` at most."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except DatabaseUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
