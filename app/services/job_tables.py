# SPDX-License-Identifier: Apache-2.0
"""The data behind the plots of a finished job, by the name of the figure."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from app.services.errors import NotFoundError
from app.services.figure_table import FigureTable, cache_table
from app.services.requests import find_job
from app.services.workbench import Workbench

Figures = Mapping[str, Mapping[str, Any]]


def job_table(workbench: Workbench, job_id: str, name: str) -> FigureTable:
    """The table of figure `name`; raises NotFoundError when the job has none of that name."""
    job = find_job(workbench, job_id)
    table = None
    if name == "kv_memory":
        table = _cache(job.metrics)
    elif name in _TABLES:
        table = _TABLES[name](workbench.store.figures(job_id))
    if table is None:
        known = ", ".join(("kv_memory", *_TABLES))
        raise NotFoundError(f"job {job_id} has no figure '{name}'", hint=f"there is: {known}", field="name")
    return table


def _cache(metrics: Mapping[str, float]) -> FigureTable | None:
    before = metrics.get("kv_bytes_per_token_before")
    after = metrics.get("kv_bytes_per_token_measured", metrics.get("kv_bytes_per_token_formula"))
    return cache_table({"original": before, "converted": after}) if before and after else None


def _contribution(figures: Figures) -> FigureTable | None:
    """One row per layer, head (or component) and rotary pair."""
    data = figures.get("rope_contribution")
    if data is None:
        return None
    turns = [2 * math.pi / one if one else None for one in data["inv_freq"]]
    rows = tuple(
        (layer, row, pair, turns[pair], score, pair in data["kept"][layer][row])
        for layer, heads in enumerate(data["scores"])
        for row, scores in enumerate(heads)
        for pair, score in enumerate(scores)
    )
    columns = ("layer", "row", "pair", "tokens_per_turn", "score", "is_kept")
    return FigureTable(name="rope_contribution", columns=columns, rows=rows)


def _layers(figures: Figures) -> FigureTable | None:
    rows = figures.get("layers", {}).get("rows")
    if not rows:
        return None
    columns = tuple(rows[0])
    cells = tuple(tuple(row.get(column) for column in columns) for row in rows)
    return FigureTable(name="layers", columns=columns, rows=cells)


def _healing(figures: Figures) -> FigureTable | None:
    """Steps and looks at the held-back windows, each a row, in the order of the tokens."""
    data = figures.get("healing_curve")
    if data is None:
        return None
    names = ("learning_rate", "tokens_per_second", "loss", "kl", "perplexity_ratio")
    rows = [
        (tokens, *(data[part][name][index] if name in data[part] else None for name in names))
        for part in ("held_out", "train")
        for index, tokens in enumerate(data[part]["tokens"])
    ]
    rows.sort(key=lambda row: row[0])
    return FigureTable(name="healing_curve", columns=("tokens", *names), rows=tuple(rows))


_TABLES: Mapping[str, Callable[[Figures], FigureTable | None]] = {
    "rope_contribution": _contribution,
    "layers": _layers,
    "healing_curve": _healing,
}
