# SPDX-License-Identifier: Apache-2.0
"""Errors only the web knows."""

from core.errors import WorkbenchError


class NotFoundError(WorkbenchError):
    """There is no such job or file."""

    reason = "not found"


class GoneError(WorkbenchError):
    """A file is registered but is not on disk any more, or is not what was registered."""

    reason = "gone"


class TooLargeError(WorkbenchError):
    """What was sent is larger than the installation allows."""

    reason = "too large"


class ForbiddenError(WorkbenchError):
    """The request came from a place that may not make it."""

    reason = "forbidden"
