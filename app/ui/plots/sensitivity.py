# SPDX-License-Identifier: Apache-2.0
"""What each layer loses when all get the same small latent."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from app.ui.plots.look import LEGEND, style

# seen on dark and on light
_COLOURS = ("#0b7d73", "#2f66c4", "#6a56c9")


def sensitivity(lost: Mapping[float, Sequence[float]]) -> go.Figure:
    """`lost`: fraction of the cache that stays -> nats per token of every layer, to second order."""
    figure = go.Figure()
    for (keep, values), colour in zip(sorted(lost.items()), _COLOURS, strict=False):
        figure.add_trace(
            go.Scatter(
                x=list(range(len(values))),
                y=list(values),
                name=f"keep {keep * 100:g} %",
                mode="lines+markers",
                line={"color": colour, "width": 2},
                marker={"size": 5},
                hovertemplate=f"layer %{{x}}, keep {keep:g}: %{{y:.4f}} nats<extra></extra>",
            )
        )
    figure.update_xaxes(title="layer", showgrid=False, zeroline=False, tickformat="d")
    figure.update_yaxes(
        title="nats per token lost", rangemode="tozero", gridcolor="rgba(128,136,150,.18)", zeroline=False
    )
    return style(figure, height=320, legend=LEGEND, dragmode=False)
