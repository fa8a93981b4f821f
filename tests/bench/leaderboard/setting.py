# SPDX-License-Identifier: Apache-2.0
"""What all rows of a run have in common: model, budgets, calibration, held-out texts."""

from pathlib import Path

from core.spec import Calibration, Frozen

ROOT = Path(__file__).parents[3]
BENCH = ROOT / "build" / "bench"
KEEPS = (0.5, 0.3125, 0.1875, 0.125)
# the budget at which stages are switched and conversions are timed: 120 of the demo's 384 numbers
MAIN_KEEP = 0.3125


class Setting(Frozen):
    """One run of the leaderboard; the defaults are its quick form."""

    model: str = "demo"
    calibration: Calibration = Calibration()
    texts: tuple[str, ...] = ("wikipedia-heldout", "news")
    context: int = 512
    windows: int = 8
    long_text: str = "wikipedia-heldout"
    long_context: int = 8192
    long_windows: int = 1


QUICK = Setting()
FULL = Setting(windows=16, long_windows=2)
