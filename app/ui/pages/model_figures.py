# SPDX-License-Identifier: Apache-2.0
"""The plots of a model: what each is drawn from, and how it is taken away."""

from typing import Any

from app.services.frontier import frontier
from app.services.pareto import ParetoPoint
from app.services.profile_curves import pair_scores, presets_of, sensitivity, spectra
from app.services.workbench import Workbench
from app.ui.components.plot_box import drawn
from app.ui.components.plot_links import data_links, plot_links
from app.ui.format import percent, short_tokens
from app.ui.plots.kv_memory import kv_memory
from app.ui.plots.pareto import Point, Step, pareto
from app.ui.plots.rope_by_head import rope_by_head
from app.ui.plots.rope_contribution import rope_contribution
from app.ui.plots.rope_meaning import meaning_of
from app.ui.plots.sensitivity import sensitivity as sensitivity_plot
from app.ui.plots.spectra import cumulative_energy, spectrum
from app.ui.strings import NO_PAIRS, preset_title
from core.facts import ModelFacts
from core.profiles import Profile

Drawn = list[Any]
CONTRIBUTION, DAMAGE = "contribution", "damage"
SUMMED, BESIDE = "summed", "side by side"
_FIGURES = "/api/v1/models/figures"


def memory(facts: ModelFacts, batch: int) -> Drawn:
    """Cache against context, and its links."""
    links = _links(facts, "model-kv-plot", "KV memory", "kv_memory")
    return [drawn(kv_memory(facts.kv_bytes_per_token, None, batch)), links]


def frontier_plot(workbench: Workbench, facts: ModelFacts, points: list[ParetoPoint], preset: str) -> Drawn:
    """Measured points and the predicted line of `preset`, and links to the data of both."""
    steps = frontier(workbench, facts.name, preset)
    figure = pareto(
        [_point(point) for point in points],
        [Step(step.bytes_per_token, step.low, step.ratio, step.high) for step in steps],
        facts.kv_bytes_per_token,
    )
    links = _links(facts, "pareto-plot", "measured points", "pareto")
    if steps:
        query = {"model": facts.name, "preset": preset}
        links += data_links("Data of the predicted line", "predicted line", f"{_FIGURES}/frontier", query)
    return [drawn(figure), links]


def spectra_plots(profile: Profile, facts: ModelFacts, preset: str) -> Drawn:
    """Spectrum, cumulative energy and sensitivity of every layer, each with its links."""
    if preset not in presets_of(profile):
        return [drawn(None), "", drawn(None), "", drawn(None), ""]
    found = spectra(profile, preset, facts)
    return [
        drawn(spectrum(found.ranks, found.saved)),
        _links(facts, "spectrum-plot", "spectrum", "spectrum", preset),
        drawn(cumulative_energy(found.ranks, found.energy)),
        _links(facts, "energy-plot", "cumulative energy", "spectrum", preset),
        drawn(sensitivity_plot(sensitivity(found, facts))),
        _links(facts, "sensitivity-plot", "sensitivity", "sensitivity", preset),
    ]


def pair_plot(profile: Profile, facts: ModelFacts, name: str, heads: str) -> Drawn:
    """Rotary pairs of every layer by 2-norm contribution or logit damage: caption, plot, links."""
    preset = _with_pairs(profile) if name == DAMAGE else ""
    data = pair_scores(profile, preset, name)
    if data is None:
        return ["" if profile.inv_freq else f'<p class="caption">{NO_PAIRS}</p>', drawn(None), ""]
    caption = f'<p class="caption">{meaning_of(data).caption}</p>'
    figure = rope_by_head(data) if heads == BESIDE else rope_contribution(data)
    return [caption, drawn(figure), _links(facts, "pair-plot", f"rotary pairs, {name}", name, preset)]


def pair_choices(profile: Profile) -> list[tuple[str, str]]:
    """Label and value of what rotary pairs can be looked at by."""
    choices = [("2-norm contribution", CONTRIBUTION)] if profile.inv_freq else []
    return [*choices, ("logit damage", DAMAGE)] if _with_pairs(profile) else choices


def _with_pairs(profile: Profile) -> str:
    """The first preset of the profile that chooses pairs by damage; empty when none does."""
    return next((one for one in presets_of(profile) if pair_scores(profile, one, DAMAGE)), "")


def _point(point: ParetoPoint) -> Point:
    name = preset_title(point.preset) if point.preset else "own recipe"
    healed = f", healed {short_tokens(point.healed_tokens)}" if point.healed_tokens else ""
    label = f"{name}{healed}, {percent(point.keep, 1)} kept, on {point.text}"
    name = f"{name}, healed" if healed else name
    return Point(point.bytes_per_token, point.perplexity_ratio, name, label, f"/jobs/{point.job}")


def _links(facts: ModelFacts, plot: str, title: str, name: str, preset: str = "") -> str:
    query = {"model": facts.name} | ({"preset": preset} if preset else {})
    return plot_links(plot, title, f"{_FIGURES}/{name}", query)
