# SPDX-License-Identifier: Apache-2.0
"""How every handler of the page is attached: no queue for cheap reads, no public endpoint, no spinner."""

from typing import Any, Final

QUIET: Final[dict[str, Any]] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
# while a slider moves only the newest position matters
LATEST: Final[dict[str, Any]] = QUIET | {"trigger_mode": "always_last"}
GO_TO = "(address) => { if (address) { window.location.href = address } }"
SET_TITLE = "(title) => { if (title) { document.title = title } }"
READ_JOB_ID = "() => new URLSearchParams(window.location.search).get('id') || ''"
