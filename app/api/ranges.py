# SPDX-License-Identifier: Apache-2.0
"""The Range header (RFC 9110, section 14), for one range of bytes."""

import re

_ONE_RANGE = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*")


class RangeError(Exception):
    """The range lies outside the file: answer 416."""


def read_range(header: str, size: int) -> tuple[int, int] | None:
    """[start, stop) of `size` bytes; None means: ignore the header and send everything.

    Several ranges at once, other units and malformed values are ignored, as the RFC allows.
    """
    match = _ONE_RANGE.fullmatch(header.strip())
    if match is None or match.group(1) == match.group(2) == "":
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1 if last else size)
        if last and int(last) < start:
            return None
    if start >= stop:
        raise RangeError
    return start, stop
