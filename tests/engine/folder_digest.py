# SPDX-License-Identifier: Apache-2.0
"""Compare result folders."""

import hashlib
from pathlib import Path


def digest(folder: Path) -> dict[str, str]:
    """sha256 of every file."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.iterdir())
        if file.is_file()
    }
