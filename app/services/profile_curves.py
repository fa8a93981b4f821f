# SPDX-License-Identifier: Apache-2.0
"""What a stored profile says of each layer, laid out to be looked at: layers x widths of the latent.

All are sums to second order, in nats per token, before the fit that turns them into a prediction: they
compare layers, they do not promise a loss.
"""

import math
from typing import Any

from pydantic import Field

from app.services.figure_table import FigureTable
from core.curves import RecipeCurves, same_curves
from core.errors import SpecError
from core.facts import ModelFacts
from core.presets import PRESETS, spec_from_preset
from core.profiles import Profile
from core.spec import Frozen
from core.widths import solve

# budgets at which layers are compared
KEEPS = (0.125, 0.3125, 0.5)
_MOST_LIKE = 0.3125


class LayerSpectra(Frozen):
    """Every layer at each of `ranks`: tail[layer][i] nats are lost in a latent of ranks[i] numbers."""

    preset: str
    rope_dim: int = Field(description="rotary dims kept beside the latent")
    ranks: tuple[int, ...]
    tail: tuple[tuple[float, ...], ...]

    @property
    def saved(self) -> list[list[float]]:
        """Nats that each further number saves, between one rank and the next."""
        steps = [after - before for before, after in zip(self.ranks, self.ranks[1:], strict=False)]
        return [
            [max(0.0, here - next_) / step for here, next_, step in zip(row, row[1:], steps, strict=False)]
            for row in self.tail
        ]

    @property
    def energy(self) -> list[list[float]]:
        """The part of what there is to lose that each rank holds, 0 to 1."""
        return [[1 - value / row[0] if row[0] > 0 else 1.0 for value in row] for row in self.tail]

    def lost(self, rank: float) -> list[float]:
        """Nats that each layer loses in a latent of `rank` numbers, by straight lines between ranks."""
        return [_between(self.ranks, row, rank) for row in self.tail]


def presets_of(profile: Profile) -> list[str]:
    """The presets whose recipes the profile knows, in the order it does."""
    return [preset for curves in profile.recipes if (preset := _preset(curves))]


def spectra(profile: Profile, preset: str, facts: ModelFacts) -> LayerSpectra:
    """The layers under `preset`, with the rotary dims it takes at 31.25 %; raises SpecError."""
    for curves in profile.recipes:
        if _preset(curves) == preset:
            wanted = solve(spec_from_preset(preset, model=facts.name, keep=_MOST_LIKE), facts).rope_dim
            dims = curves.layers[0].rope_dims
            index = min(range(len(dims)), key=lambda one: abs(dims[one] - wanted))
            tail = tuple(layer.tail[index] for layer in curves.layers)
            return LayerSpectra(preset=preset, rope_dim=dims[index], ranks=curves.ranks, tail=tail)
    raise SpecError(
        f"the profile of '{facts.name}' does not know '{preset}'",
        hint=f"choose one of: {', '.join(presets_of(profile))}",
        field="preset",
    )


def spread_of(profile: Profile) -> dict[str, float]:
    """By what factor predictions of each preset may be off, either way."""
    return {name: curves.fit.spread for curves in profile.recipes if (name := _preset(curves))}


def spectra_table(found: LayerSpectra) -> FigureTable:
    """One row per layer and rank: what is lost there, and the part that is kept."""
    energy = found.energy
    rows = tuple(
        (layer, rank, found.tail[layer][index], energy[layer][index])
        for layer in range(len(found.tail))
        for index, rank in enumerate(found.ranks)
    )
    columns = ("layer", "latent_numbers", "lost_nats", "energy_fraction")
    return FigureTable(name="spectrum", columns=columns, rows=rows)


def sensitivity(found: LayerSpectra, facts: ModelFacts) -> dict[float, list[float]]:
    """Budget -> nats each layer loses when all get the same latent."""
    return {keep: found.lost(keep * facts.kv_numbers_per_layer - found.rope_dim) for keep in KEEPS}


def sensitivity_table(found: LayerSpectra, facts: ModelFacts) -> FigureTable:
    """One row per layer, a column per budget."""
    columns = ("layer", *(f"lost_nats_keep_{keep:g}" for keep in KEEPS))
    by_layer = zip(*sensitivity(found, facts).values(), strict=True)
    rows = tuple((layer, *values) for layer, values in enumerate(by_layer))
    return FigureTable(name="sensitivity", columns=columns, rows=rows)


def pair_scores(profile: Profile, preset: str, name: str) -> dict[str, Any] | None:
    """What app/ui/plots/rope_contribution.py draws: "contribution" of every pair, or its "damage" under the
    recipe of `preset`; None when the recipe chooses no pairs, or the model has none."""
    if not profile.inv_freq:
        return None
    scores: Any = profile.contribution
    if name == "damage":
        found = next((curves.pairs for curves in profile.recipes if _preset(curves) == preset), None)
        if found is None:
            return None
        scores = found.scores
    nothing: list[list[list[int]]] = [[[] for _ in layer] for layer in scores]
    return {
        "scores": scores,
        "kept": nothing,
        "inv_freq": profile.inv_freq,
        "meaning": f"profile-{name}",
    }


def pair_table(profile: Profile, preset: str, name: str) -> FigureTable:
    """One row per layer, row of scores and rotary pair; raises SpecError where no pairs are chosen."""
    if not profile.inv_freq:
        raise SpecError(
            f"'{profile.model}' has no rotary pairs: its positions are learned",
            hint="ask for spectrum or sensitivity",
            field="name",
        )
    data = pair_scores(profile, preset, name)
    if data is None:
        raise SpecError(f"'{preset}' chooses no rotary pairs", hint="ask for preset=fast", field="preset")
    rows = tuple(
        (layer, row, pair, 2 * math.pi / data["inv_freq"][pair], score)
        for layer, heads in enumerate(data["scores"])
        for row, scores in enumerate(heads)
        for pair, score in enumerate(scores)
    )
    return FigureTable(name=name, columns=("layer", "row", "pair", "tokens_per_turn", "score"), rows=rows)


def _preset(curves: RecipeCurves) -> str:
    """Empty for a recipe that is no preset's."""
    return next((name for name, one in PRESETS.items() if same_curves(one.recipe, curves.recipe)), "")


def _between(known: tuple[int, ...], values: tuple[float, ...], wanted: float) -> float:
    if wanted <= known[0]:
        return values[0]
    for index in range(1, len(known)):
        if wanted <= known[index]:
            share = (wanted - known[index - 1]) / (known[index] - known[index - 1])
            return values[index - 1] + share * (values[index] - values[index - 1])
    return values[-1]
