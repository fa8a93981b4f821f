# SPDX-License-Identifier: Apache-2.0
"""Stop a run at a chosen point."""

from core.errors import Cancelled


class CancelAfter:
    """Raises at the n-th check."""

    def __init__(self, checks: int) -> None:
        self.left = checks

    def check(self) -> None:
        self.left -= 1
        if self.left <= 0:
            raise Cancelled
