# SPDX-License-Identifier: Apache-2.0
"""What a healing reached, and what its curve says so far."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from app.ui.components.chips import source, term
from app.ui.components.messages import empty
from app.ui.components.results import Metrics, savings_tiles, tile, tiles_row, verdict_line
from app.ui.format import duration, integer, number, ratio, short_tokens
from app.ui.plots.healing_curve import best_of
from core.store.views import FINAL, JobView, State

_BEFORE_IT = {
    "": "The curve starts with the job.",
    "preparing": "Looking at models and text; nothing is learned yet.",
}


def healing_summary(metrics: Metrics) -> str:
    """The verdict and the tiles; a tile whose number was not reported is left out."""
    return verdict_line(metrics) + tiles_row([*_healing_tiles(metrics), *savings_tiles(metrics)])


def _healing_tiles(metrics: Metrics) -> list[str]:
    """Quality before and after, and what it took."""
    tiles = []
    quality: Sequence[tuple[str, str, Callable[[float], str]]] = (
        ("perplexity_ratio", f"{term('perplexity', 'perplexity')}, healed", ratio),
        ("kl_to_base", f"{term('KL', 'kl')} to the original, nats", number),
    )
    for name, label, show in quality:
        before, after = metrics.get(f"{name}_before_healing"), metrics.get(name)
        if after:
            now = f'<span class="was">{show(before.value)} →</span> ' if before else ""
            tiles.append(tile(f"{now}{show(after.value)}", label, after.source))
    taken: Sequence[tuple[str, str, Callable[[float], str]]] = (
        ("healing_tokens", "tokens learned from", integer),
        ("healing_tokens_per_second", "tokens/s at the end", integer),
        ("seconds", "time of the job", duration),
    )
    for name, label, show in taken:
        if metric := metrics.get(name):
            tiles.append(tile(show(metric.value), label, metric.source))
    return tiles


def before_the_curve(job: JobView) -> str:
    """What happens while there is no point to draw."""
    if job.stage == "teaching":
        so_far = f", {job.done} of {job.total} windows so far" if job.total else ""
        return empty(f"The original is asked what it expects after every token{so_far}. The curve follows.")
    if job.stage == "healing":
        return empty("The first look at the held-back windows: how far apart both models are before it.")
    if job.state in FINAL or job.state is State.PAUSED:
        return empty("It stopped before the first point of the curve.")
    return empty(_BEFORE_IT.get(job.stage, "The curve follows."))


def curve_words(job: JobView, data: Mapping[str, Any]) -> str:
    """Where it stands, which point is kept, and where it goes."""
    held = data["held_out"]
    if not held["kl"]:
        return before_the_curve(job)
    best = best_of(held)
    first = held["perplexity_ratio"][0]
    words = (
        f"<b>Best so far</b>: perplexity {ratio(first)} → {ratio(held['perplexity_ratio'][best])}, KL "
        f"{number(held['kl'][0])} → {number(held['kl'][best])} after {integer(held['tokens'][best])} tokens "
        f"{source('measured')}"
    )
    if job.state in FINAL:
        words = words.replace("Best so far", "Best")
    return f'<p class="caption">{words}, on windows held back from the text.{_outlook(job, data)}</p>'


def _outlook(job: JobView, data: Mapping[str, Any]) -> str:
    ahead = data.get("outlook")
    if not ahead or job.state in FINAL or job.stage != "healing" or not job.spec.heal:
        return ""
    end = short_tokens(job.spec.heal.tokens)
    return f" At the end, {escape(end)} tokens: KL about {ahead['kl_at_end']:.2g} {source('predicted')}."
