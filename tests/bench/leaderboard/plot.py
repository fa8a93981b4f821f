# SPDX-License-Identifier: Apache-2.0
"""The picture of the leaderboard: cached bytes against perplexity ratio, one line per preset."""

import io
import math
from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from leaderboard.results import Result

# Okabe and Ito's colours: told apart with every kind of colour vision
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"
# equal results give equal files
_STYLE = {"svg.hashsalt": "leaderboard", "svg.fonttype": "none", "font.size": 10}
# named on the axis; the second when the first would overlap
_FINE = (1, 1.25, 1.5, 2, 3, 5, 10, 20, 50)
_COARSE = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)


def draw(results: Sequence[Result], cached_before: int) -> str:
    """The SVG: one panel per text, log axis. `cached_before` are the original's bytes per token."""
    plain = [one for one in results if not one.row.switched]
    texts = list(dict.fromkeys(text for one in plain for text in one.quality)) or [""]
    with rc_context(_STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(4.6 * len(texts), 4.2), layout="constrained")
        panels = figure.subplots(1, len(texts), sharey=True, squeeze=False)[0]
        for axes, text in zip(panels, texts, strict=True):
            _panel(axes, text, plain, cached_before)
        _share_axis(panels[0], [quality.ratio for one in plain for quality in one.quality.values()])
        panels[0].set_ylabel("perplexity ratio to the original (measured)")
        panels[-1].legend(frameon=False)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return written.getvalue()


def _panel(axes: Axes, text: str, results: Sequence[Result], cached_before: int) -> None:
    presets = dict.fromkeys(one.row.preset for one in results)
    for number, preset in enumerate(presets):
        points = sorted(
            (one.conversion.metrics["kv_bytes_per_token_measured"], one.quality[text].ratio)
            for one in results
            if one.row.preset == preset and math.isfinite(one.quality[text].ratio)
        )
        axes.plot(
            [bytes_ for bytes_, _ in points],
            [ratio for _, ratio in points],
            color=_COLOURS[number % len(_COLOURS)],
            marker=_MARKERS[number % len(_MARKERS)],
            label=preset,
        )
    axes.set_title(text)
    axes.set_xlabel(f"KV-cache bytes per token (of {cached_before:,})")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(True, which="major", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _share_axis(axes: Axes, ratios: Sequence[float]) -> None:
    """A log axis between the named ratios around the drawn ones; the panels share it."""
    drawn = [ratio for ratio in ratios if math.isfinite(ratio)] or [1.0]
    named = _FINE if max(drawn) < _FINE[-1] else _COARSE
    low = max((ratio for ratio in named if ratio <= min(drawn)), default=min(drawn))
    high = min((ratio for ratio in named if ratio >= max(drawn) and ratio > low), default=max(drawn))
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.set_yticks([ratio for ratio in named if low <= ratio <= high])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"x{value:,.10g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
