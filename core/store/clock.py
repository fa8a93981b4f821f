# SPDX-License-Identifier: Apache-2.0
"""The clock of the record."""

from datetime import UTC, datetime


def now() -> datetime:
    """This moment, aware and in UTC. Machines that share a database need clocks that agree to a few seconds,
    well within a lease."""
    return datetime.now(UTC)
