# SPDX-License-Identifier: Apache-2.0
"""What each layer lost: relative error of its keys and values."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from app.ui.plots.look import CONVERTED, LEGEND, style

KEYS, VALUES = CONVERTED, "#c98a1b"


def layer_errors(rows: Sequence[dict[str, Any]]) -> go.Figure:
    """`rows` of the "layers" event; errors are relative, of keys and values on the calibration text."""
    figure = go.Figure()
    layers = [row["index"] for row in rows]
    for name, field, colour in (("keys", "key_error", KEYS), ("values", "value_error", VALUES)):
        figure.add_trace(
            go.Scatter(
                x=layers,
                y=[row[field] for row in rows],
                name=name,
                mode="lines+markers",
                line={"color": colour, "width": 2},
                marker={"size": 5},
                hovertemplate=f"layer %{{x}}, {name}: %{{y:.3f}}<extra></extra>",
            )
        )
    figure.update_xaxes(title="layer", showgrid=False, zeroline=False)
    figure.update_yaxes(title="relative error", rangemode="tozero", gridcolor="rgba(128,136,150,.18)")
    return style(
        figure,
        height=300,
        legend=LEGEND,
        dragmode=False,
    )
