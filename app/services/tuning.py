# SPDX-License-Identifier: Apache-2.0
"""Tuning on a stored profile: targets that find the budget, ranks spread anew, and what pairs contribute."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from app.services.requests import read_request
from app.services.workbench import Workbench
from core.errors import PlanError, SpecError
from core.facts import ModelFacts
from core.foresight import foresee, known_curves, respread
from core.kv_budget import DTYPE_BYTES
from core.layer_widths import layer_widths
from core.pair_scores import Rows, meaning_of_scores, rule_pairs
from core.profiles import Profile
from core.spec import Frozen, JobSpec
from core.target import at_keep, keep_for_loss
from core.widths import PRE_ROPE

KB, GB = 1000, 10**9


class SizeTarget(Frozen):
    """At most so many bytes of cache per token."""

    kind: Literal["size"] = "size"
    kilobytes: float = Field(gt=0, description="KB (1000 bytes) per token, all layers")


class RoomTarget(Frozen):
    """`tokens` x `batch` must fit into so much memory."""

    kind: Literal["room"] = "room"
    tokens: int = Field(ge=1)
    batch: int = Field(1, ge=1)
    gigabytes: float = Field(gt=0, description="GB (10^9 bytes) for the cache")


class LossTarget(Frozen):
    """The smallest cache that is predicted to lose no more than that."""

    kind: Literal["loss"] = "loss"
    percent: float = Field(gt=0, description="percent by which perplexity may rise")


Target = Annotated[SizeTarget | RoomTarget | LossTarget, Field(discriminator="kind")]


class PairView(Frozen):
    """Rotary pairs of every layer: what they contribute, and which the rule keeps at the budget."""

    scores: tuple[Rows, ...] = Field(description="layers x rows x pairs")
    kept: tuple[tuple[tuple[int, ...], ...], ...] = Field(description="layers x rows, pairs the rule keeps")
    inv_freq: tuple[float, ...] = Field(description="radians per token of each pair")
    meaning: str = Field(description="what the scores are: contribution, energy, components or exact")
    is_shared: bool = Field(description="rows are components that all heads share, not KV heads")


def redistribute(workbench: Workbench, data: Mapping[str, Any], locked: Mapping[int, int]) -> tuple[int, ...]:
    """Ranks of all layers within the request's budget: `locked` layers (index -> rank) keep theirs, the
    others go by predicted loss. Raises WorkbenchError naming the layer, or what would make the loss known.
    """
    spec, facts, profile = _read(workbench, data)
    curves = known_curves(spec, facts, profile)
    if curves is None:
        raise SpecError(
            f"no profile of '{facts.name}' knows what this recipe loses in each layer",
            hint=f"make one: mla-workbench profile {facts.name}; it knows the presets quality and fast",
            field="layer_ranks",
        )
    return respread(spec, facts, curves, locked)


def keep_for(workbench: Workbench, data: Mapping[str, Any], target: Target) -> float:
    """The `keep` that reaches the target: the largest that fits, or the smallest that is good enough.

    Raises WorkbenchError when nothing reaches it, or no profile can say.
    """
    spec, facts, profile = _read(workbench, data)
    if isinstance(target, LossTarget):
        return keep_for_loss(spec, facts, profile, nats_of(target.percent))
    if isinstance(target, SizeTarget):
        return _keep_of_bytes(spec, facts, target.kilobytes * KB)
    return _keep_of_bytes(spec, facts, target.gigabytes * GB / (target.tokens * target.batch))


def nats_of(percent: float) -> float:
    """Nats per token that raise perplexity by `percent`: log(1 + p / 100).

    An approximation: the mean loss on text rises by about the KL divergence to the original, and by exactly
    that only where text is distributed as the original says.
    """
    return math.log1p(percent / 100)


def pair_scores(
    workbench: Workbench, model: str, preset: str, data: Mapping[str, Any] | None = None
) -> PairView | None:
    """What rotary pairs of `model` contribute under `preset`, or under the request `data`, which then counts.

    None without a profile, when that does not know what this recipe chooses by, or when the model's
    positions are learned, so that it has no rotary pairs. Pairs that the request
    names are left aside: `kept` is the rule's. Raises WorkbenchError for what cannot be planned.
    """
    spec, facts, profile = _read(workbench, data or {"model": model, "preset": preset})
    if profile is None or len(profile.contribution) != facts.layers or not profile.inv_freq:
        return None
    spec = spec.model_copy(update={"rope_pairs": None})
    widths = foresee(spec, facts, profile).widths
    scores = _scores(spec, profile, widths[0].rope_dim // 2)
    if scores is None:
        return None
    kept = (
        rule_pairs(spec.recipe, rows, profile.inv_freq, one.rope_dim)
        for rows, one in zip(scores, widths, strict=True)
    )
    return PairView(
        scores=scores,
        kept=tuple(tuple(map(tuple, rows)) for rows in kept),
        inv_freq=profile.inv_freq,
        meaning=meaning_of_scores(spec.recipe),
        is_shared=spec.recipe.layout != PRE_ROPE and spec.recipe.rope_mix != "none",
    )


def _scores(spec: JobSpec, profile: Profile, kept: int) -> tuple[Rows, ...] | None:
    """What the recipe chooses by; the 2-norm contribution is known of every model, damages of a recipe's."""
    recipe = spec.recipe
    if recipe.layout == PRE_ROPE or (recipe.rope_mix == "none" and recipe.rope_select != "logit-damage"):
        return profile.contribution
    curves = profile.curves(recipe)
    return curves.scores_for(kept, profile.inv_freq) if curves else None


def _read(workbench: Workbench, data: Mapping[str, Any]) -> tuple[JobSpec, ModelFacts, Profile | None]:
    spec = read_request(data)
    facts = workbench.facts.read(spec.model, spec.revision, workbench.settings)
    return spec, facts, workbench.profiles.newest(workbench.settings.home, facts.name)


def _keep_of_bytes(spec: JobSpec, facts: ModelFacts, most: float) -> float:
    """The largest budget of at most `most` bytes per token; raises SpecError naming the smallest there is."""
    dtype = facts.dtype if spec.dtype == "checkpoint" else spec.dtype
    number = facts.layers * DTYPE_BYTES.get(dtype, 2)
    # a hair of slack, so that the size of a plan that is shown finds that plan again
    numbers = min(math.floor(most / number + 1e-6), facts.kv_numbers_per_layer)
    keep = numbers / facts.kv_numbers_per_layer
    try:
        if numbers < 1:
            raise PlanError("no number is left")
        layer_widths(at_keep(spec, keep), facts)
    except PlanError as error:
        raise SpecError(
            f"{most / KB:,.3g} KB per token leaves no room for a latent",
            hint=error.hint or f"one number per layer takes {number / KB:,.3g} KB per token: ask for more",
            field="keep",
        ) from error
    return keep
