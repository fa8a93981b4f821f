# SPDX-License-Identifier: Apache-2.0
"""Colours and layout all plots share. Text and grid lines get their colour from the page's CSS, so that one
figure serves dark and light."""

from typing import Any

import plotly.graph_objects as go

ORIGINAL = "#8a919e"
CONVERTED = "#12968a"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', 'DejaVu Sans', sans-serif"


LEGEND = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}


def style(figure: go.Figure, *, height: int, **layout: Any) -> go.Figure:
    """Give `figure` the common look: no background, no title (the page has one), small system type."""
    figure.update_layout(
        template="none",
        height=height,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 12, "color": "#6b7280"},
        margin={"l": 56, "r": 12, "t": 36, "b": 48},
        hoverlabel={"font": {"family": FONT, "size": 12}},
        modebar={"remove": ["select2d", "lasso2d", "autoScale2d"], "orientation": "h"},
        **layout,
    )
    return figure
