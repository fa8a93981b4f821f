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
            await asyncio.to_thread(reconcile, workbench.store, workbench.bell)
        except Exception:
            _log.exception("the record could not be reconciled; the next look is in %s s", SECONDS)
        await asyncio.sleep(SECONDS)
