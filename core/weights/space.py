# SPDX-License-Identifier: Apache-2.0
"""Disk space: claimed before it is needed, and reported as what it is when it runs out."""

import errno
import os
import sys
from pathlib import Path

from core.errors import OutputError

# full disk, quota, file size limit, disk that became read-only
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def claim(descriptor: int, size: int) -> None:
    """Make an open file `size` bytes long on blocks that are really there; raises OSError when full."""
    if size == 0:
        return
    if sys.platform == "linux":
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS cannot reserve space this way
        os.ftruncate(descriptor, size)


def create(path: Path, size: int) -> None:
    """Create `path` with `size` bytes of claimed space.

    A file that is mapped into memory needs this: where a hole meets a full disk, the process is killed.
    """
    with path.open("wb") as handle:
        claim(handle.fileno(), size)


def is_disk_error(error: OSError) -> bool:
    """Whether the disk, not the program, is to blame."""
    return error.errno in _DISK


def disk_error(error: OSError, needed: int | None = None) -> OutputError:
    """What the user is told; `needed` bytes did not fit."""
    need = "" if needed is None else f"{needed / 1e6:,.0f} MB are needed; "
    return OutputError(
        f"writing failed: {error.strerror}",
        hint=f"{need}free some space and run it again to continue",
        field="out",
    )
