# SPDX-License-Identifier: Apache-2.0
"""Cached bytes per token against perplexity ratio: a point per finished job, a line for what is predicted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from app.ui.format import ratio, size
from app.ui.plots.layer_overlay import COLOURS
from app.ui.plots.look import CONVERTED, LEGEND, ORIGINAL, style

_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
_TICKS = (
    0.5,
    0.7,
    0.8,
    0.9,
    0.95,
    1,
    1.02,
    1.05,
    1.1,
    1.2,
    1.5,
    2,
    3,
    5,
    10,
    20,
    50,
    100,
    200,
    500,
    1000,
    10_000,
)
# fewer than this part of the axis apart, two ticks would print over each other
_APART = 0.05
# what lost more is shown at the upper edge: at ×250 the axis would hide what separates good ones
CEILING = 10.0
_HOVER = "%{text}<br>click opens the job<extra></extra>"


@dataclass(frozen=True)
class Point:
    """A finished job: where it stands, whose colour it has, what hovering says, what a click opens."""

    bytes_per_token: float
    perplexity_ratio: float
    group: str
    label: str
    address: str


@dataclass(frozen=True)
class Step:
    """A place on the predicted line, with the range its profile leaves."""

    bytes_per_token: float
    low: float
    ratio: float
    high: float


def pareto(points: Sequence[Point], frontier: Sequence[Step], bytes_before: float) -> go.Figure:
    """Smaller is left, better is low. The original is where both axes say: nothing was given up."""
    figure = go.Figure()
    if frontier:
        _add_frontier(figure, frontier)
    inside = [point for point in points if point.perplexity_ratio <= CEILING]
    for index, group in enumerate(dict.fromkeys(point.group for point in inside)):
        figure.add_trace(_group(group, [point for point in inside if point.group == group], index))
    figure.add_trace(
        go.Scatter(
            x=[bytes_before],
            y=[1.0],
            name="original",
            mode="markers",
            marker={"color": ORIGINAL, "size": 11, "symbol": "diamond-open", "line": {"width": 2}},
            hovertemplate=f"original: {size(bytes_before)} per token<extra></extra>",
        )
    )
    ratios = [*(point.perplexity_ratio for point in points), *(step.ratio for step in frontier)]
    top = max([1.5, *(one for one in ratios if one <= CEILING)]) * 1.25
    _add_beyond(figure, [point for point in points if point.perplexity_ratio > CEILING], top)
    _axes(figure, bytes_before, min([1.0, *ratios]), top)
    return style(figure, height=420, legend=LEGEND, dragmode=False, hoverdistance=24)


def _group(group: str, points: Sequence[Point], index: int) -> go.Scatter:
    return go.Scatter(
        x=[point.bytes_per_token for point in points],
        y=[point.perplexity_ratio for point in points],
        name=group,
        mode="markers",
        marker={
            "color": COLOURS[index % len(COLOURS)],
            "size": 11,
            "symbol": _SYMBOLS[index % len(_SYMBOLS)],
            "line": {"width": 1, "color": "rgba(255,255,255,.7)"},
        },
        text=[_said(point) for point in points],
        customdata=[point.address for point in points],
        hovertemplate=_HOVER,
    )


def _add_beyond(figure: go.Figure, points: Sequence[Point], edge: float) -> None:
    """Arrows at the upper edge, with what was measured."""
    if not points:
        return
    figure.add_trace(
        go.Scatter(
            x=[point.bytes_per_token for point in points],
            y=[edge for _ in points],
            name=f"above ×{CEILING:g}",
            mode="markers",
            marker={"color": ORIGINAL, "size": 11, "symbol": "arrow-up"},
            text=[_said(point) for point in points],
            customdata=[point.address for point in points],
            hovertemplate=_HOVER,
        )
    )


def _said(point: Point) -> str:
    where = f"{size(point.bytes_per_token)} per token"
    return f"{point.label}<br>{where}, perplexity {ratio(point.perplexity_ratio)}, measured"


def _add_frontier(figure: go.Figure, steps: Sequence[Step]) -> None:
    ascending = sorted(steps, key=lambda step: step.bytes_per_token)
    x = [step.bytes_per_token for step in ascending]
    band = [*(step.high for step in ascending), *(step.low for step in reversed(ascending))]
    figure.add_trace(
        go.Scatter(
            x=[*x, *reversed(x)],
            y=band,
            fill="toself",
            fillcolor="rgba(18,150,138,.14)",
            line={"width": 0},
            name="its range",
            hoverinfo="skip",
            showlegend=False,
        )
    )
    figure.add_trace(
        go.Scatter(
            x=x,
            y=[step.ratio for step in ascending],
            name="predicted",
            mode="lines",
            line={"color": CONVERTED, "width": 2, "dash": "dash"},
            text=[
                f"{size(step.bytes_per_token)} per token: {ratio(step.ratio)} "
                f"({ratio(step.low)} to {ratio(step.high)})"
                for step in ascending
            ],
            hovertemplate="predicted, %{text}<extra></extra>",
        )
    )


def _axes(figure: go.Figure, bytes_before: float, least: float, top: float) -> None:
    high = math.log10(top) * 1.08
    # a conversion may measure better than its original, by luck or on a text that is too short
    low = math.log10(least) - 0.04 * high
    shown = _ticks(low, high)
    steps = [bytes_before * part / 8 for part in range(9)]
    figure.update_xaxes(
        title="cached per token",
        range=[0, bytes_before * 1.04],
        tickvals=steps[::2],
        ticktext=[size(one) if one else "0" for one in steps[::2]],
        gridcolor="rgba(128,136,150,.18)",
        zeroline=False,
    )
    figure.update_yaxes(
        type="log",
        title="perplexity, converted / original",
        range=[low, high],
        tickvals=shown,
        ticktext=[f"×{tick:g}" for tick in shown],
        automargin=True,
        gridcolor="rgba(128,136,150,.18)",
        zeroline=False,
    )


def _ticks(low: float, high: float) -> list[float]:
    """×1 always; from there up, and down, what does not print over the last one."""
    shown = [1.0]
    for ticks in (_TICKS[_TICKS.index(1) + 1 :], _TICKS[_TICKS.index(1) - 1 :: -1]):
        last = 1.0
        for tick in ticks:
            place = math.log10(tick)
            if low <= place <= high and abs(place - math.log10(last)) >= _APART * (high - low):
                shown.append(tick)
                last = tick
    return sorted(shown)
