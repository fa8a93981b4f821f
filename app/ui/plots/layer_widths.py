# SPDX-License-Identifier: Apache-2.0
"""How many numbers each layer caches per token: before, and after as latent and rotary part."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from app.ui.plots.look import CONVERTED, LEGEND, ORIGINAL, style

ROTARY = "#c98a1b"


def layer_widths(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """`rows` of the "layers" figure; the original is the wide grey bar behind."""
    layers = [row["index"] for row in rows]
    latent = [row["kv_lora_rank"] for row in rows]
    rotary = [row["cached_numbers"] - row["kv_lora_rank"] for row in rows]
    figure = go.Figure()
    figure.add_trace(_bars("original", layers, [row["base_numbers"] for row in rows], ORIGINAL, 0.9, 0.28))
    figure.add_trace(_bars("latent", layers, latent, CONVERTED, 0.56, 1.0))
    if any(rotary):
        figure.add_trace(_bars("rotary", layers, rotary, ROTARY, 0.56, 1.0, base=latent))
    figure.update_xaxes(title="layer", showgrid=False, zeroline=False)
    figure.update_yaxes(title="numbers per token", gridcolor="rgba(128,136,150,.18)", zeroline=False)
    return style(figure, height=300, legend=LEGEND, dragmode=False, barmode="overlay")


def _bars(
    name: str,
    layers: Sequence[int],
    numbers: Sequence[int],
    colour: str,
    width: float,
    opacity: float,
    base: Sequence[int] | None = None,
) -> go.Bar:
    return go.Bar(
        x=layers,
        y=numbers,
        base=base,
        name=name,
        width=width,
        marker={"color": colour, "line": {"width": 0}},
        opacity=opacity,
        # with a base, y is where the bar ends
        customdata=numbers,
        hovertemplate=f"layer %{{x}}, {name}: %{{customdata:,.0f}} numbers per token<extra></extra>",
    )
