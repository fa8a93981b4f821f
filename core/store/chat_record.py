# SPDX-License-Identifier: Apache-2.0
"""The chat's part of the record."""

from core.store import chat_tables  # noqa: F401  its tables belong to the metadata
