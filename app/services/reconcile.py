# SPDX-License-Identifier: Apache-2.0
"""A look at the record every few seconds: lost leases are released, unheard jobs are rung again."""

import asyncio
import logging

from app.services.workbench import Workbench
from core.store import reconcile

SECONDS = 3.0

_log = logging.getLogger(__name__)


async def keep_reconciled(workbench: Workbench) -> None:
    """Run until cancelled. A database or broker that is away for a while must not end the loop."""
    while True:
        try:
            await asyncio.to_thread(_look, workbench)
        except Exception:
            _log.exception("the record could not be reconciled; the next look is in %s s", SECONDS)
        await asyncio.sleep(SECONDS)


def _look(workbench: Workbench) -> None:
    reconcile(workbench.store, workbench.bell)
    if workbench.store.chat.must_ring():
        workbench.bell.ring_chat()
