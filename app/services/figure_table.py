# SPDX-License-Identifier: Apache-2.0
"""The data behind one plot as a table: what a person loads into a notebook or a spreadsheet."""

import csv
import io
from collections.abc import Mapping

from core.spec import Frozen

Cell = str | int | float | bool | None
# context lengths at which a cache is shown: 1k to 1M tokens
CONTEXTS = tuple(1 << power for power in range(10, 21))


class FigureTable(Frozen):
    """Named columns and rows; a column's name ends in its unit where it has one."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def as_csv(self) -> str:
        """RFC 4180, with a header; nothing is written as an empty cell."""
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return text.getvalue()

    def as_records(self) -> list[dict[str, Cell]]:
        """One object per row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def cache_table(bytes_per_token: Mapping[str, float]) -> FigureTable:
    """Cache of one sequence at each of CONTEXTS, a column for each named model."""
    columns = ("context_tokens", *(f"{name}_bytes" for name in bytes_per_token))
    rows = tuple((tokens, *(one * tokens for one in bytes_per_token.values())) for tokens in CONTEXTS)
    return FigureTable(name="kv_memory", columns=columns, rows=rows)
