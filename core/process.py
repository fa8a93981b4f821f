# SPDX-License-Identifier: Apache-2.0
"""Habits of a process that runs the engine."""

import ctypes
import re
import resource
import sys
from pathlib import Path

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_TRIM_BYTES = 1 << 24
_MMAP_BYTES = 1 << 23


def hide_progress_bars() -> None:
    """Turn off transformers' progress bars in this process: progress is reported through events."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()


def return_freed_memory() -> None:
    """Keep the C library from hoarding freed memory (glibc; elsewhere nothing happens).

    Left alone it adapts to the weights it sees and keeps them in fragments: calibrating SmolLM2-135M peaked
    at 800 MB. Returning everything at once (one threshold of 1 MB) took half as much, but a quarter of the
    time then went into getting the same pages again for every activation. So what is as small as an
    activation stays, and `return_layer_memory` gives back what a layer leaves.
    """
    if sys.platform == "linux":
        try:
            library = ctypes.CDLL(None)
            library.mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
            library.mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        except AttributeError:  # musl has no such knob
            return


def return_layer_memory() -> None:
    """Give freed memory back now, also from between what is still used (glibc).

    Without it a calibration of 16 layers peaked 60 MB above one of 4: each layer left some holes.
    """
    if sys.platform == "linux":
        try:
            ctypes.CDLL(None).malloc_trim(0)
        except AttributeError:  # musl has no such call
            return


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far."""
    if sys.platform == "linux":
        # not getrusage: its peak survives exec, so a small process started by a large one looks large
        status = Path("/proc/self/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
