# SPDX-License-Identifier: Apache-2.0
"""One number of every layer, of several conversions over each other."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from app.ui.plots.look import style

# each bears white type, and is seen on dark and on light; a symbol tells them apart without colour, too
COLOURS = ("#0b7d73", "#c2410c", "#2f66c4", "#a3457a", "#7d6608", "#6a56c9")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross")


def layer_overlay(
    named: Mapping[str, Sequence[Mapping[str, Any]]], field: str, title: str, number: str = ".3f"
) -> go.Figure:
    """`named` are the rows of the "layers" figure by what the line is called; those without it have none."""
    figure = go.Figure()
    for index, (name, rows) in enumerate(named.items()):
        known = [row for row in rows if row.get(field) is not None]
        colour = COLOURS[index % len(COLOURS)]
        figure.add_trace(
            go.Scatter(
                x=[row["index"] for row in known],
                y=[row[field] for row in known],
                name=name,
                mode="lines+markers",
                line={"color": colour, "width": 2},
                marker={"size": 6, "symbol": _SYMBOLS[index % len(_SYMBOLS)]},
                hovertemplate=f"{name}, layer %{{x}}: %{{y:{number}}}<extra></extra>",
            )
        )
    figure.update_xaxes(title="layer", showgrid=False, zeroline=False)
    figure.update_yaxes(title=title, rangemode="tozero", gridcolor="rgba(128,136,150,.18)")
    return style(figure, height=260, showlegend=False, dragmode=False)
