# SPDX-License-Identifier: Apache-2.0
"""Heatmaps of layers x numbers of the latent: what each further number saves, and what they hold so far."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from app.ui.plots.look import style

# cividis never runs through red, so these lines are seen on every cell
_MARK = "#ff3d2e"
# of a real model the first number of a latent saves a million times what the last one does
_DECADES = 6.0
# 90 %, 99 %, 99.9 %: what separates layers is how many nines they hold
_NINES = ("0 %", "90 %", "99 %", "99.9 %", "99.99 %")
_ROW_HEIGHT = 10


def spectrum(ranks: Sequence[int], saved: Sequence[Sequence[float]]) -> go.Figure:
    """saved[layer][i]: nats per token that each number from ranks[i] to ranks[i + 1] saves; logarithmic."""
    values = np.asarray(saved, dtype=np.float64)
    top = values.max() if values.size and values.max() > 0 else 1.0
    floor = top / 10**_DECADES
    logs = np.log10(np.maximum(values, floor))
    ticks = np.arange(np.ceil(np.log10(floor)), np.floor(np.log10(top)) + 1)
    cells = go.Heatmap(
        x=list(ranks[1:]),
        z=logs.astype(np.float32),
        text=[[f"{value:.3g}" for value in row] for row in values],
        colorscale="Cividis",
        hovertemplate="layer %{y}, number %{x} of the latent<br>saves %{text} nats per token<extra></extra>",
        colorbar={
            "title": {"text": "nats per token saved", "side": "right"},
            "tickvals": ticks.tolist(),
            "ticktext": [f"{10**tick:g}" for tick in ticks],
            "thickness": 12,
            "outlinewidth": 0,
        },
    )
    return _axes(go.Figure(cells), len(values))


def cumulative_energy(ranks: Sequence[int], energy: Sequence[Sequence[float]]) -> go.Figure:
    """energy[layer][i]: the part, 0 to 1, that the first ranks[i] numbers hold; lines at 90 and 99 %.

    Colours count nines: -log10 of what is not held.
    """
    values = np.asarray(energy, dtype=np.float64)
    most = len(_NINES) - 1
    nines = -np.log10(np.clip(1 - values, 10.0**-most, 1))
    cells = go.Heatmap(
        x=list(ranks),
        z=nines.astype(np.float32),
        zmin=0,
        zmax=most,
        text=[[f"{100 * value:.4g}" for value in row] for row in values],
        colorscale="Cividis",
        hovertemplate="layer %{y}, latent of %{x}<br>holds %{text} %<extra></extra>",
        colorbar={
            "title": {"text": "held by the latent", "side": "right"},
            "tickvals": list(range(most + 1)),
            "ticktext": list(_NINES),
            "thickness": 12,
            "outlinewidth": 0,
        },
    )
    figure = go.Figure(cells)
    for part, dash in ((0.9, "dot"), (0.99, "solid")):
        figure.add_trace(_reached(ranks, values, part, dash))
    return _axes(figure, len(values), legend=True)


def _reached(ranks: Sequence[int], values: np.ndarray, part: float, dash: str) -> go.Scatter:
    """Where each layer first holds `part`."""
    first = [
        next((rank for rank, one in zip(ranks, row, strict=True) if one >= part), None) for row in values
    ]
    return go.Scatter(
        x=first,
        y=list(range(len(values))),
        name=f"{part:.0%} held",
        mode="lines",
        line={"color": _MARK, "width": 1.6, "dash": dash, "shape": "vhv"},
        hovertemplate=f"layer %{{y}}: {part:.0%} from a latent of %{{x}}<extra></extra>",
    )


def _axes(figure: go.Figure, layers: int, legend: bool = False) -> go.Figure:
    figure.update_xaxes(title="numbers of the latent", showgrid=False, zeroline=False)
    figure.update_yaxes(title="layer", range=[layers - 0.5, -0.5], showgrid=False, zeroline=False)
    return style(
        figure,
        height=max(320, 120 + _ROW_HEIGHT * layers),
        showlegend=legend,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        dragmode=False,
    )
