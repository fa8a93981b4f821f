# SPDX-License-Identifier: Apache-2.0
"""The command line: the same JobSpec as the form and the REST API."""

from app.cli.main import main

__all__ = ["main"]
