# SPDX-License-Identifier: Apache-2.0
"""Cells and tables of the page."""

import math
from collections.abc import Sequence

Cells = Sequence[str]


def ratio_text(ratio: float) -> str:
    """x1.083, x3.65, x19.8, x6,988: three figures, four near x1 where the third is the one that differs."""
    if not math.isfinite(ratio):
        return "broken"
    if ratio < 2:
        return f"x{ratio:.3f}"
    return f"x{ratio:.2f}" if ratio < 10 else f"x{ratio:.1f}" if ratio < 100 else f"x{ratio:,.0f}"


def table(head: Cells, rows: Sequence[Cells]) -> str:
    """Markdown; all but the first column to the right."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
