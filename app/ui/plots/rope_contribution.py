# SPDX-License-Identifier: Apache-2.0
"""Heatmap of layers x rotary frequencies: what each pair contributes to the scores, kept pairs outlined."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app.ui.plots.look import style
from app.ui.plots.rope_meaning import Meaning, meaning_of

# cividis runs from dark blue to yellow and never through red, so this outline is visible on every cell
OUTLINE = "#ff3d2e"
_ROW_HEIGHT = 14


def rope_contribution(data: Mapping[str, Any], head: int | None = None) -> go.Figure:
    """`data` is the event's {"scores", "kept", "inv_freq", "meaning"}; `head` None sums over the rows.

    Colours are the decimal logarithm, since contributions span orders of magnitude; hover gives the value.
    """
    scores = np.asarray(data["scores"], dtype=np.float64)
    values = scores.sum(axis=1) if head is None else scores[:, head]
    kept = _times_kept(data["kept"], scores.shape, head)
    layers, pairs = values.shape
    meaning, periods = meaning_of(data), [_period(float(one)) for one in data["inv_freq"]]
    notes = _notes(values, kept, periods, meaning, 1 if head is not None else scores.shape[1])
    figure = go.Figure()
    figure.add_trace(_cells(values, notes, meaning.bar))
    if meaning.drops:
        figure.add_trace(_outlines(kept))
    style(figure, height=max(300, 120 + _ROW_HEIGHT * layers), showlegend=False, dragmode=False)
    figure.update_xaxes(
        title="rotary pair, fast to slow", range=[-0.5, pairs - 0.5], showgrid=False, zeroline=False
    )
    figure.update_yaxes(title="layer", range=[layers - 0.5, -0.5], showgrid=False, zeroline=False)
    return figure


def _cells(values: Any, notes: list[list[str]], bar: str) -> go.Heatmap:
    positive = values[values > 0]
    floor = positive.min() if positive.size else 1.0
    logs = np.log10(np.maximum(values, floor))
    return go.Heatmap(
        z=logs.astype(np.float32),
        text=notes,
        colorscale="Cividis",
        xgap=1,
        ygap=1,
        hovertemplate="layer %{y}, pair %{x}<br>%{text}<extra></extra>",
        colorbar=colour_bar(bar, float(logs.min()), float(logs.max())),
    )


def colour_bar(title: str, low: float, high: float) -> dict[str, Any]:
    """From 10^low to 10^high, with a tick at each power of ten."""
    ticks = np.arange(np.ceil(low), np.floor(high) + 1)
    if len(ticks) < 2:
        ticks = np.array([low, high])
    return {
        "title": {"text": title, "side": "right"},
        "tickvals": ticks.tolist(),
        "ticktext": [_plain(10**tick) for tick in ticks],
        "thickness": 12,
        "outlinewidth": 0,
    }


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _outlines(kept: Any) -> go.Scatter:
    """All rectangles as one broken line: hundreds of layout shapes would make the plot sluggish."""
    x: list[float | None] = []
    y: list[float | None] = []
    for layer, pair in zip(*np.nonzero(kept), strict=True):
        left, top = float(pair) - 0.44, float(layer) - 0.42
        right, bottom = float(pair) + 0.44, float(layer) + 0.42
        x += [left, right, right, left, left, None]
        y += [top, top, bottom, bottom, top, None]
    return go.Scatter(x=x, y=y, mode="lines", line={"color": OUTLINE, "width": 1.2}, hoverinfo="skip")


def _times_kept(kept: Sequence[Sequence[Sequence[int]]], shape: tuple[int, ...], head: int | None) -> Any:
    """(layers, pairs): in how many of the shown heads a pair stays."""
    layers, heads, pairs = shape
    counts = np.zeros((layers, pairs), dtype=int)
    for layer in range(layers):
        for one in range(heads) if head is None else (head,):
            counts[layer, list(kept[layer][one])] += 1
    return counts


def _notes(values: Any, kept: Any, periods: Sequence[str], meaning: Meaning, rows: int) -> list[list[str]]:
    """What hovering over a cell says."""
    return [
        [
            f"{meaning.value} {value:.4g}, {_stays(int(times), rows, meaning)}<br>"
            f"one turn every {meaning.about}{period} tokens"
            for value, times, period in zip(*layer, periods, strict=True)
        ]
        for layer in zip(values, kept, strict=True)
    ]


def _stays(kept: int, rows: int, meaning: Meaning) -> str:
    if not meaning.drops:
        return meaning.idle
    return f"kept in {kept} of {rows} {meaning.rows}" if rows > 1 else "kept" if kept else "dropped"


def _period(inv_freq: float) -> str:
    return f"{2 * np.pi / inv_freq:,.3g}" if inv_freq else "∞"
