# SPDX-License-Identifier: Apache-2.0
"""The process that answers: `python -m workers.chat_host OWNER SUPERVISOR_PID BUDGET_BYTES`.

Torch lives here and goes with it: after some idle minutes the process ends and its memory returns.
"""

import os
import signal
import sys
from contextlib import closing
from types import FrameType

from core.chat.shelf import Shelf
from core.devices import choose_device
from core.parent import die_with_parent
from core.process import hide_progress_bars, return_freed_memory
from core.settings import load_settings
from core.store import open_store
from workers.chat_loop import ChatLoop


class SignalStop:
    """True after SIGTERM, or when the supervisor is gone."""

    def __init__(self, supervisor: int) -> None:
        self._supervisor = supervisor
        self._is_asked = False
        signal.signal(signal.SIGTERM, self._ask)
        # Ctrl-C reaches every process of a terminal; whoever started this one decides
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def __call__(self) -> bool:
        return self._is_asked or os.getppid() != self._supervisor

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._is_asked = True


def main(arguments: list[str]) -> int:
    """Answer until nobody asks any more."""
    owner, supervisor, budget = arguments[0], int(arguments[1]), int(arguments[2])
    die_with_parent()
    must_stop = SignalStop(supervisor)
    hide_progress_bars()
    return_freed_memory()
    settings = load_settings()
    with closing(open_store(settings)) as store:
        shelf = Shelf(settings, budget, choose_device("auto"))
        ChatLoop(store.chat, owner, shelf, must_stop, settings.chat_idle_minutes * 60).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
