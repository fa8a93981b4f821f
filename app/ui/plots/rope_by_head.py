# SPDX-License-Identifier: Apache-2.0
"""The heatmap of rotary pairs of every head (or component) beside each other, on one scale of colours."""

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.ui.plots.look import style
from app.ui.plots.rope_contribution import colour_bar, rope_contribution
from app.ui.plots.rope_meaning import meaning_of

# more of them would be too narrow to see a pair
MOST = 8
_COLUMNS = 4
# of all heads together; below, a pair carries nothing
_DECADES = 8.0


def rope_by_head(data: Mapping[str, Any]) -> go.Figure:
    """`data` as rope_contribution takes it; the first MOST heads, four in a row."""
    heads = min(MOST, len(data["scores"][0]))
    columns = min(heads, _COLUMNS)
    rows = -(-heads // columns)
    row = meaning_of(data).row
    figure = make_subplots(
        rows=rows,
        cols=columns,
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.02,
        vertical_spacing=0.06,
        subplot_titles=[f"{row} {head}" for head in range(heads)],
    )
    parts = [rope_contribution(data, head) for head in range(heads)]
    high = max(float(part.data[0].z.max()) for part in parts)
    low = max(high - _DECADES, min(float(part.data[0].z.min()) for part in parts))
    bar = colour_bar(meaning_of(data).bar, low, high)
    for head, part in enumerate(parts):
        where = {"row": head // columns + 1, "col": head % columns + 1}
        cells = part.data[0]
        cells.update(zmin=low, zmax=high, showscale=head == 0, colorbar=bar, xgap=0, ygap=0)
        if len(part.data) > 1:
            part.data[1].update(line={"width": 0.8})
        for trace in part.data:
            figure.add_trace(trace, **where)
    layers, pairs = len(data["scores"]), len(data["inv_freq"])
    style(figure, height=max(300, 120 + rows * 14 * layers), showlegend=False, dragmode=False)
    figure.update_annotations(font={"size": 12})
    figure.update_xaxes(range=[-0.5, pairs - 0.5], showgrid=False, zeroline=False)
    figure.update_xaxes(title="rotary pair", row=rows)
    figure.update_yaxes(range=[layers - 0.5, -0.5], showgrid=False, zeroline=False)
    figure.update_yaxes(title="layer", col=1)
    return figure
