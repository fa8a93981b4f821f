# SPDX-License-Identifier: Apache-2.0
"""Become another program that ends when its starter does: `leash.py STARTER_PID PROGRAM ARGUMENT...`.

Run as a file, not as a module, so that it costs a few milliseconds. On Linux the kernel then sends SIGTERM
when the starter dies, even by kill -9; elsewhere only an orderly stop reaches the program.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # the starter may have died before the line above
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
    os.execvp(sys.argv[2], sys.argv[2:])
