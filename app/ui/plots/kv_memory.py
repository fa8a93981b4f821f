# SPDX-License-Identifier: Apache-2.0
"""KV-cache bytes against context length, original and converted, with the sizes of common GPUs."""

import math

import plotly.graph_objects as go

from app.services.figure_table import CONTEXTS
from app.ui.format import context as context_text
from app.ui.format import size
from app.ui.plots.look import CONVERTED, LEGEND, ORIGINAL, style

GPU_GIGABYTES = (24, 40, 80)


def kv_memory(bytes_before: float, bytes_after: float | None, batch: int) -> go.Figure:
    """Bytes per token of both models, times `batch` sequences of 1k to 1M tokens, on logarithmic axes.

    Without `bytes_after` there is only the original.
    """
    figure = go.Figure()
    lines = [("original", bytes_before, ORIGINAL)]
    if bytes_after is not None:
        lines.append(("converted", bytes_after, CONVERTED))
    for name, per_token, colour in lines:
        sizes = [per_token * batch * tokens for tokens in CONTEXTS]
        figure.add_trace(
            go.Scatter(
                x=CONTEXTS,
                y=sizes,
                name=name,
                mode="lines+markers",
                line={"color": colour, "width": 2.5},
                marker={"size": 5},
                text=[size(one) for one in sizes],
                hovertemplate=f"{name}, %{{x:,}} tokens: %{{text}}<extra></extra>",
            )
        )
    _add_gpus(figure)
    both = [per_token for _, per_token, _ in lines]
    _axes(figure, min(both) * batch, max(both) * batch)
    return style(
        figure,
        height=360,
        legend=LEGEND,
        dragmode=False,
    )


def _add_gpus(figure: go.Figure) -> None:
    for gigabytes in GPU_GIGABYTES:
        figure.add_hline(y=gigabytes * 1e9, line={"color": ORIGINAL, "width": 1, "dash": "dot"})
        figure.add_annotation(
            text=f"{gigabytes} GB GPU",
            x=0.03,
            xref="x domain",
            y=_log10(gigabytes * 1e9),
            xanchor="left",
            # the gap above the smallest is too low for type
            yanchor="top" if gigabytes == GPU_GIGABYTES[0] else "bottom",
            font={"size": 11},
            showarrow=False,
        )


def _axes(figure: go.Figure, smallest: float, largest: float) -> None:
    shown = CONTEXTS[::2]
    figure.update_xaxes(
        type="log",
        title="context length, tokens",
        tickvals=shown,
        ticktext=[context_text(tokens) for tokens in shown],
        gridcolor="rgba(128,136,150,.18)",
        zeroline=False,
    )
    low, high = (
        _log10(smallest * CONTEXTS[0]),
        _log10(max(largest * CONTEXTS[-1], 1.4 * GPU_GIGABYTES[-1] * 1e9)),
    )
    powers = range(int(low) - 1, int(high) + 2)
    figure.update_yaxes(
        type="log",
        title="KV cache",
        range=[low - 0.1, high + 0.1],
        tickvals=[10.0**power for power in powers],
        ticktext=[_power_text(power) for power in powers],
        gridcolor="rgba(128,136,150,.18)",
        zeroline=False,
        automargin=True,
    )


def _power_text(power: int) -> str:
    unit = ("B", "KB", "MB", "GB", "TB", "PB")[min(5, power // 3)]
    return f"{10 ** (power - 3 * min(5, power // 3))} {unit}"


def _log10(value: float) -> float:
    return math.log10(max(value, 1.0))
