# SPDX-License-Identifier: Apache-2.0
"""`serve`: web, worker, broker and database of one machine, started and stopped together."""

from app.serve.serve import serve

__all__ = ["serve"]
