# SPDX-License-Identifier: Apache-2.0
"""What a conversion would most likely do, foreseen from a stored profile: ranks of layers and their loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.allocate import ALLOCATE, largest_gains, stacked, tempered
from core.curves import RecipeCurves
from core.errors import SpecError
from core.facts import ModelFacts
from core.layer_profile import LayerProfile
from core.layer_widths import layer_widths
from core.profiles import Prediction, Profile, predicted_loss
from core.spec import JobSpec
from core.widths import Widths, groups_of, largest_rank, smallest_rank

# names of an allocation that is none of the candidates in core/allocate.py
GIVEN, UNIFORM, OPEN = "given", "uniform", "open"


@dataclass(frozen=True)
class Foreseen:
    """Widths of every layer, and how they were spread.

    allocation: "given" by the request, "uniform", the candidate the recipe asks for (the engine measures it
    against others and may take one of those), or "open": only calibration can say, all layers are shown
    alike.
    prediction and layers, nats per token of each layer, are None without a profile that knows the recipe.
    """

    allocation: str
    widths: tuple[Widths, ...]
    prediction: Prediction | None = None
    layers: tuple[float, ...] | None = None


def foresee(spec: JobSpec, facts: ModelFacts, profile: Profile | None) -> Foreseen:
    """Widths and loss of `spec`; raises PlanError when its widths are impossible."""
    usual = layer_widths(spec, facts)
    curves = known_curves(spec, facts, profile)
    allocation, widths = _allocated(spec, facts, usual, curves)
    if curves is None or spec.loses_more_than_rank:
        return Foreseen(allocation, tuple(widths))
    raw = curves.raw_layers(widths, spec.rope_pairs)
    prediction = predicted_loss(curves, sum(raw))
    # the fit bends the sum, so that the loss of a layer is its share of the sum's
    share = prediction.loss / max(sum(raw), 1e-30)
    return Foreseen(allocation, tuple(widths), prediction, tuple(share * one for one in raw))


def known_curves(spec: JobSpec, facts: ModelFacts, profile: Profile | None) -> RecipeCurves | None:
    """What `profile` says of the recipe of `spec`, when it is one of a model with as many layers."""
    found = profile.curves(spec.recipe) if profile else None
    return found if found is not None and len(found.layers) == facts.layers else None


def respread(
    spec: JobSpec, facts: ModelFacts, curves: RecipeCurves, locked: Mapping[int, int]
) -> tuple[int, ...]:
    """Ranks of all layers within the budget of `spec`: locked ones stay, the rest go by predicted loss.

    No layer gets less than half or more than twice what it would get if all that is left were spread evenly.
    Raises SpecError when the locked layers leave too little, or are none of the model's.
    """
    usual = _budget(spec, facts)
    limits = _limits(spec, facts, usual)
    _check_locked(locked, limits, spec)
    free = [index for index in range(facts.layers) if index not in locked]
    left = sum(one.rank for one in usual) - sum(locked.values())
    least = smallest_rank(spec.recipe) * len(free)
    if left < least:
        raise SpecError(
            f"the locked layers leave {max(0, left)} numbers for {len(free)} layers",
            hint="lower a locked layer, unlock one, or raise the budget",
            field="layer_ranks",
        )
    ranks = dict(locked)
    if free:
        spread = _spread(curves.profiles(usual, limits), free, limits, left)
        ranks |= dict(zip(free, spread, strict=True))
    return tuple(ranks[index] for index in range(facts.layers))


def _spread(profiles: Sequence[LayerProfile], free: list[int], limits: list[int], left: int) -> list[int]:
    gain = tempered(stacked([profiles[index].spectrum[0] for index in free]))
    even = np.full(len(free), left / len(free))
    ranks = largest_gains(gain, even, np.array([limits[index] for index in free]), left)
    return [int(rank) for rank in ranks]


def _budget(spec: JobSpec, facts: ModelFacts) -> list[Widths]:
    """What the budget gives every layer alike; that of the given ranks when nothing else says one."""
    has_budget = spec.keep is not None or spec.kv_rank is not None
    return layer_widths(spec.model_copy(update={"layer_ranks": None}) if has_budget else spec, facts)


def _limits(spec: JobSpec, facts: ModelFacts, widths: Sequence[Widths]) -> list[int]:
    return [largest_rank(spec.recipe, facts, one.rope_dim) for one in widths]


def _check_locked(locked: Mapping[int, int], limits: Sequence[int], spec: JobSpec) -> None:
    for layer, rank in locked.items():
        if not 0 <= layer < len(limits):
            raise SpecError(
                f"there is no layer {layer} to lock",
                hint=f"the model has layers 0 to {len(limits) - 1}",
                field="layer_ranks",
            )
        least, most = smallest_rank(spec.recipe), limits[layer]
        if not least <= rank <= most:
            raise SpecError(
                f"layer {layer}: rank {rank} cannot be kept",
                hint=f"choose {least} to {most}",
                field="layer_ranks",
            )


def _allocated(
    spec: JobSpec, facts: ModelFacts, usual: list[Widths], curves: RecipeCurves | None
) -> tuple[str, list[Widths]]:
    if not spec.allocates:
        return (UNIFORM if spec.layer_ranks is None else GIVEN), usual
    if curves is None:
        return OPEN, usual
    profiles = curves.profiles(usual, _limits(spec, facts, usual))
    found = ALLOCATE[spec.recipe.allocate](profiles, usual, groups_of(spec.recipe, facts))
    return spec.recipe.allocate, found[spec.recipe.allocate]
