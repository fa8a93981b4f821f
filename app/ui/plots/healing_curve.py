# SPDX-License-Identifier: Apache-2.0
"""How a converted model learns: loss and divergence against tokens, and how fast that goes."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.ui.format import integer, number, ratio
from app.ui.plots.look import CONVERTED, LEGEND, ORIGINAL, style

TRAINING = "#c98a1b"
_GRID = "rgba(128,136,150,.18)"
# room for the second axis of one of two plots, so that tokens are under tokens
_RIGHT = 64
# points of the dashed line
_STEPS = 24

Curve = Mapping[str, Any]


def healing_curve(data: Curve) -> go.Figure:
    """The figure "healing_curve" of a job: training loss and held-out KL above, perplexity ratio below."""
    figure = make_subplots(rows=2, shared_xaxes=True, row_heights=[0.62, 0.38], vertical_spacing=0.06)
    train, held = data["train"], data["held_out"]
    loss = _line("training loss", train["tokens"], train["loss"], TRAINING, width=1.5)
    figure.add_trace(loss, row=1, col=1)
    kl = _line("KL, held-back text", held["tokens"], held["kl"], CONVERTED, dots=True)
    figure.add_trace(kl, row=1, col=1)
    _add_outlook(figure, data)
    ratios = _line("perplexity ratio", held["tokens"], held["perplexity_ratio"], CONVERTED, dots=True)
    figure.add_trace(ratios.update(showlegend=False), row=2, col=1)
    _add_best(figure, held)
    figure.add_hline(y=1, row=2, col=1, line={"color": ORIGINAL, "width": 1, "dash": "dot"})
    every = (*train["loss"], *held["kl"])
    _axis(figure, 1, "nats per token", _ticks(every), "{:g}")
    _axis(figure, 2, "perplexity", _ticks([1.0, *held["perplexity_ratio"]]), "×{:g}")
    last = max([*train["tokens"], *held["tokens"], _end(data)])
    figure.update_xaxes(range=[-0.01 * last, 1.01 * last], showgrid=False, zeroline=False)
    figure.update_xaxes(title="tokens learned from", row=2, col=1)
    return style(figure, height=440, legend=LEGEND, dragmode=False).update_layout(margin_r=_RIGHT)


def healing_pace(data: Curve) -> go.Figure:
    """Tokens per second, and the learning rate on an axis of its own."""
    train = data["train"]
    figure = make_subplots(specs=[[{"secondary_y": True}]])
    speed = _line("tokens/s", train["tokens"], train["tokens_per_second"], CONVERTED, width=1.5)
    figure.add_trace(speed, secondary_y=False)
    rate = _line("learning rate", train["tokens"], train["learning_rate"], ORIGINAL, width=1.5)
    figure.add_trace(rate, secondary_y=True)
    last = max([*train["tokens"], _end(data)])
    figure.update_xaxes(
        title="tokens learned from", range=[-0.01 * last, 1.01 * last], showgrid=False, zeroline=False
    )
    figure.update_yaxes(
        title="tokens/s", rangemode="tozero", gridcolor=_GRID, zeroline=False, secondary_y=False
    )
    figure.update_yaxes(
        title="learning rate", rangemode="tozero", showgrid=False, exponentformat="e", secondary_y=True
    )
    return style(figure, height=240, legend=LEGEND, dragmode=False).update_layout(margin_r=_RIGHT)


def best_of(held: Mapping[str, Sequence[float]]) -> int:
    """Place of the lowest held-out divergence: the weights that are kept."""
    return min(range(len(held["kl"])), key=lambda index: held["kl"][index])


def _line(
    name: str,
    tokens: Sequence[float],
    values: Sequence[float],
    colour: str,
    *,
    width: float = 2,
    dots: bool = False,
) -> go.Scatter:
    return go.Scatter(
        x=list(tokens),
        y=list(values),
        name=name,
        mode="lines+markers" if dots else "lines",
        line={"color": colour, "width": width},
        marker={"size": 5},
        text=[f"{integer(one)} tokens" for one in tokens],
        hovertemplate=f"%{{text}}<br>{name}: %{{y:.4g}}<extra></extra>",
    )


def _add_best(figure: go.Figure, held: Mapping[str, Sequence[float]]) -> None:
    """A ring around what is kept, in both plots."""
    if not held["kl"]:
        return
    best = best_of(held)
    for row, name, words in (
        (1, "kl", f"KL {number(held['kl'][best])}"),
        (2, "perplexity_ratio", f"perplexity {ratio(held['perplexity_ratio'][best])}"),
    ):
        figure.add_trace(
            go.Scatter(
                x=[held["tokens"][best]],
                y=[held[name][best]],
                name="best",
                mode="markers",
                marker={"color": CONVERTED, "size": 13, "symbol": "circle-open", "line": {"width": 2.5}},
                showlegend=row == 1,
                hovertemplate=f"best so far: {words}<br>after {integer(held['tokens'][best])} tokens"
                "<extra></extra>",
            ),
            row=row,
            col=1,
        )


def _add_outlook(figure: go.Figure, data: Curve) -> None:
    """The power law from where the curve is to where the tokens end; nothing once it is there."""
    ahead, end = data.get("outlook"), _end(data)
    if not ahead or not data["held_out"]["tokens"]:
        return
    start = data["held_out"]["tokens"][-1]
    if start <= 0 or start >= end:
        return
    x = [start + (end - start) * step / _STEPS for step in range(_STEPS + 1)]
    figure.add_trace(
        go.Scatter(
            x=x,
            y=[ahead["factor"] * one ** -ahead["power"] for one in x],
            name="KL, predicted",
            mode="lines",
            line={"color": CONVERTED, "width": 2, "dash": "dash"},
            text=[f"{integer(one)} tokens" for one in x],
            hovertemplate="%{text}<br>KL, predicted: %{y:.3g}<extra></extra>",
        ),
        row=1,
        col=1,
    )


def _end(data: Curve) -> float:
    """Tokens that were asked for; those of the steps so far where nobody says."""
    tokens = data["train"]["tokens"]
    return float(data.get("tokens") or (tokens[-1] if tokens else 0))


def _axis(figure: go.Figure, row: int, title: str, ticks: Sequence[float], words: str) -> None:
    figure.update_yaxes(
        type="log",
        title=title,
        tickvals=list(ticks),
        ticktext=[words.format(one) for one in ticks],
        gridcolor=_GRID,
        zeroline=False,
        row=row,
        col=1,
    )


def _ticks(values: Sequence[float]) -> list[float]:
    """Three to eight round numbers that the values reach across, on a logarithmic axis."""
    known = [one for one in values if one and one > 0]
    if not known:
        return [1.0]
    low, high = min(known), max(known)
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.1, 1.2, 1.3, 1.5, 1.7, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)):
        found = [
            round(step * 10.0**decade, 8)
            for decade in range(-8, 8)
            for step in steps
            if low / 1.3 <= step * 10.0**decade <= high * 1.3
        ]
        if len(found) >= 3:
            return found if len(found) <= 8 else found[:: -(-len(found) // 8)]
    return found
