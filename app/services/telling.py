# SPDX-License-Identifier: Apache-2.0
"""Tell the world outside that a job has ended: one POST of JSON to the address of the settings.

It is told by a loop of its own, so an address that hangs delays nothing but the next notification.
"""

import asyncio
import json
import logging
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from app.services.workbench import Workbench
from core.store.views import JobView

SECONDS = 2.0
_TIMEOUT = 5.0
# what ended before that is history: switching notifications on must not tell it
_RECENT = timedelta(hours=1)

_log = logging.getLogger(__name__)


async def keep_told(workbench: Workbench) -> None:
    """Run until cancelled; returns at once when nobody wants to know."""
    while workbench.settings.webhook_url:
        try:
            await asyncio.to_thread(tell_ended, workbench)
        except Exception:
            _log.exception("ended jobs could not be told; the next look is in %s s", SECONDS)
        await asyncio.sleep(SECONDS)


def tell_ended(workbench: Workbench) -> None:
    """One POST for every job that ended since the last look. One that fails is logged and not repeated."""
    for job in workbench.store.take_ended(datetime.now(UTC) - _RECENT):
        try:
            _post(workbench.settings.webhook_url, message_of(job))
        except OSError as error:
            # the address may carry a secret in its path
            host = urlsplit(workbench.settings.webhook_url).hostname
            _log.warning("%s was not told that job %s is %s: %s", host, job.id, job.state, error)


def message_of(job: JobView) -> dict[str, Any]:
    """What is sent: enough to write a line in a chat room and to find the job again."""
    fields = {"id", "state", "owner", "sweep_id", "created_at", "started_at", "finished_at", "metrics"}
    said = job.model_dump(mode="json", include=fields | {"reason", "hint"})
    about = {"kind": job.spec.kind, "model": job.spec.model, "preset": job.spec.preset}
    return {"event": "job.ended", "job": said | about, "address": f"/jobs/{job.id}"}


def _post(address: str, message: dict[str, Any]) -> None:
    request = urllib.request.Request(
        address,
        data=json.dumps(message).encode(),
        headers={"Content-Type": "application/json", "User-Agent": "mla-workbench"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=_TIMEOUT):
        pass
