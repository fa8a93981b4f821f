# SPDX-License-Identifier: Apache-2.0
"""The end of a log file that another process may be writing."""

from pathlib import Path


def read_tail(path: Path, size: int) -> str:
    """At most the last `size` bytes, starting at a whole line; empty when there is no file yet."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - size))
        data = file.read(size)
    if end > size and b"\n" in data:
        data = data.partition(b"\n")[2]
    return data.decode("utf-8", errors="replace")
