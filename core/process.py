# SPDX-License-Identifier: Apache-2.0
"""Habits of a process that runs the engine."""

import ctypes
import re
import resource
import sys
from pathlib import Path

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_TRIM_BYTES = 1 << 25
_MMAP_BYTES = 1 << 24


def hide_progress_bars() -> None:
    """Turn off transformers' progress bars in this process: progress is reported through events."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()


def return_freed_memory() -> None:
    """Make the C library give freed memory back at once (glibc; elsewhere nothing happens).

    It adapts to the weights it sees and keeps them in fragments: calibrating SmolLM2-135M peaked at 800 MB,
    with a fixed threshold at 384 MB and no slower, and the peak no longer grew with the number of layers.
    """
    if sys.platform == "linux":
        try:
            library = ctypes.CDLL(None)
            library.mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
            library.mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        except AttributeError:  # musl has no such knob
            return


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far."""
    if sys.platform == "linux":
        # not getrusage: its peak survives exec, so a small process started by a large one looks large
        status = Path("/proc/self/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
