# SPDX-License-Identifier: Apache-2.0
"""Solve a byte budget into widths: rotary dims and the rank of the latent. Integers and facts only."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from core.errors import PlanError
from core.facts import ModelFacts
from core.spec import JobSpec, Recipe

LATENT_ROPE, PRE_ROPE = "latent+rope", "pre-rope"
# the rule of rotary dims where the model has none, whatever the recipe
NO_ROTATION = "no rotation"
# up to the published -68.75 % budget MHA2MLA keeps 1/8 of the head dim as rotary dims (paper, table 1)
PAPER_KEEP = 0.3125


@dataclass(frozen=True)
class Widths:
    """What a budget is solved into for one layer: `rope_dim` dims per rope key, a latent of `rank`."""

    rope_dim: int
    rank: int


def layout_of(recipe: Recipe, facts: ModelFacts) -> str:
    """What layers cache: the recipe's layout, but where nothing rotates the latent alone, absorbed.

    Rebuilding keys before a rotation that is none would cost time for nothing.
    """
    return recipe.layout if facts.rotary_dim else LATENT_ROPE


def groups_of(recipe: Recipe, facts: ModelFacts) -> int:
    """Rope keys cached per token: none in pre-rope, one when heads were mixed, else one per KV head.

    Where nothing rotates they have no dims.
    """
    if layout_of(recipe, facts) == PRE_ROPE:
        return 0
    if not facts.rotary_dim:
        return facts.kv_heads
    return facts.kv_heads if recipe.rope_mix == "none" else 1


def solve(spec: JobSpec, facts: ModelFacts, given: int | None = None, where: str = "") -> Widths:
    """Rotary dims per rope key and latent numbers over all heads; raises PlanError with the fix.

    `given` rotary dims, which the pairs of a layer make, take the place of rope_dim and of the rule; `where`
    begins the message about them.
    """
    if spec.rope_dim is not None or spec.kv_rank is not None:
        return _explicit(spec, facts, spec.rope_dim if given is None else given)
    keep = _asked_keep(spec)
    numbers = numbers_of(keep, facts)
    rope_dim = rope_dim_of(spec, facts) if given is None else given
    groups = groups_of(spec.recipe, facts)
    rank = numbers - groups * rope_dim
    smallest = smallest_rank(spec.recipe)
    if rank < smallest:
        need = _enough(spec, facts, given) or (groups * rope_dim + smallest) / facts.kv_numbers_per_layer
        beside = f" beside {rope_dim} rotary dims per rope key" if rope_dim else ""
        raise PlanError(
            f"{where}keep {keep:g} leaves no room for a latent{beside}",
            hint=f"keep at least {math.ceil(need * 1000) / 1000:g}, or set rope_dim and kv_rank",
            field="keep",
        )
    return Widths(rope_dim, min(rank, largest_rank(spec.recipe, facts, rope_dim)))


def numbers_of(keep: float, facts: ModelFacts) -> int:
    """Numbers per token and layer that stay."""
    return math.floor(keep * facts.kv_numbers_per_layer + 1e-9)


def rope_dim_of(spec: JobSpec, facts: ModelFacts) -> int:
    """Rotary dims per rope key that the rule of the recipe takes at the budget; none needs no budget."""
    if rule_of(spec.recipe, facts) in (PRE_ROPE, NO_ROTATION):
        return 0
    keep = _asked_keep(spec)
    return _by_rule(spec.recipe, keep, numbers_of(keep, facts), facts)


def _by_rule(recipe: Recipe, keep: float, numbers: int, facts: ModelFacts) -> int:
    """What the rule takes, but no more than the choice of pairs can give."""
    return min(RULES[rule_of(recipe, facts)](keep, numbers, facts), most_rope_dims(recipe, facts))


def smallest_rank(recipe: Recipe) -> int:
    """Numbers a latent needs at least: one, or one for keys and one for values."""
    return 2 if recipe.is_split else 1


def _enough(spec: JobSpec, facts: ModelFacts, given: int | None) -> float | None:
    """The smallest budget that has room for a latent: rotary dims may rise with it, too."""
    groups, whole = groups_of(spec.recipe, facts), facts.kv_numbers_per_layer
    for numbers in range(1, whole + 1):
        rope_dim = _by_rule(spec.recipe, numbers / whole, numbers, facts) if given is None else given
        if numbers - groups * rope_dim >= smallest_rank(spec.recipe):
            return numbers / whole
    return None


def _asked_keep(spec: JobSpec) -> float:
    if spec.keep is None:
        raise PlanError("no budget given", hint="set keep, or rope_dim and kv_rank", field="keep")
    return spec.keep


def rule_of(recipe: Recipe, facts: ModelFacts) -> str:
    """The key of RULES that solves the rotary dims of `recipe`."""
    if not facts.rotary_dim:
        return NO_ROTATION
    return PRE_ROPE if recipe.layout == PRE_ROPE else recipe.rope_mix


def _paper_rope_dim(keep: float, numbers: int, facts: ModelFacts) -> int:
    """Rotary dims per head: d_h/8 as in MHA2MLA, then rising in a straight line to all of them at keep 1,
    where the conversion is exact. The paper gives no budget above -68.75 %."""
    del numbers
    share = 1 / 8 + 7 / 8 * max(0.0, keep - PAPER_KEEP) / (1 - PAPER_KEEP)
    return min(max(2, 2 * math.floor(share * facts.head_dim / 2 + 1e-9)), facts.rotary_dim)


def _principal_rope_dim(keep: float, numbers: int, facts: ModelFacts) -> int:
    """Rotary dims of the first principal head as TransMLA takes them: d_h/2 of a head of 64, 64 in general,
    halved until they are no more than a third of the budget. Never more, so that the
    conversion drops rotations at every budget, as the published one does."""
    del keep
    dims = min(facts.head_dim, 64) if facts.head_dim > 64 else facts.head_dim // 2
    dims = min(dims, facts.rotary_dim)
    while dims > 2 and 3 * dims > numbers:
        dims //= 2
    return max(2, dims - dims % 2)


def _shared_rope_dim(keep: float, numbers: int, facts: ModelFacts) -> int:
    """Rotary dims for pairs chosen by damage and shared by all heads: 2 * 0.75 * sqrt(numbers).

    The demo gets 10 of 48 and 16 of 120 numbers. Above half the cache they rise, slowly first, to all pairs
    of all heads, where the conversion is exact.
    """
    everything = facts.kv_heads * facts.rotary_dim
    few = 2 * round(0.75 * math.sqrt(numbers))
    beyond = max(0.0, keep - 0.5) / 0.5
    dims = 2 * math.floor((few + (everything - few) * beyond**2) / 2 + 1e-9)
    return max(2, min(dims, everything))


def _no_rope_dim(keep: float, numbers: int, facts: ModelFacts) -> int:
    """Pre-rope, or a model that does not rotate: no rotary number is cached."""
    del keep, numbers, facts
    return 0


RULES: Mapping[str, Callable[[float, int, ModelFacts], int]] = {
    "none": _paper_rope_dim,
    "roro": _principal_rope_dim,
    "complex": _shared_rope_dim,
    PRE_ROPE: _no_rope_dim,
    NO_ROTATION: _no_rope_dim,
}


def _explicit(spec: JobSpec, facts: ModelFacts, given: int | None) -> Widths:
    if spec.kv_rank is None or (given is None and most_rope_dims(spec.recipe, facts)):
        missing = "kv_rank" if spec.kv_rank is None else "rope_dim"
        raise PlanError(f"{missing} is not set", hint="give rope_dim and kv_rank together", field=missing)
    rope_dim = check_rope_dim(given or 0, spec.recipe, facts)
    rank = spec.kv_rank * facts.kv_heads
    largest = largest_rank(spec.recipe, facts, rope_dim)
    # kv_rank counts per head, so the smallest exact value may overshoot the full rank by less than a head
    if rank >= largest + facts.kv_heads:
        per_head = math.ceil(largest / facts.kv_heads)
        raise PlanError(
            f"kv_rank {spec.kv_rank} is more than the full rank",
            hint=f"choose {per_head} or less; {per_head} keeps keys and values exact",
            field="kv_rank",
        )
    if spec.recipe.is_split and rank < 2:
        raise PlanError(
            f"{spec.recipe.factor_form} needs a latent of at least 2", hint="raise kv_rank", field="kv_rank"
        )
    return Widths(rope_dim, min(rank, largest))


def check_rope_dim(rope_dim: int, recipe: Recipe, facts: ModelFacts) -> int:
    """`rope_dim` when a rope key can have that many dims; else raises PlanError."""
    most = most_rope_dims(recipe, facts)
    if rope_dim > most:
        if not facts.rotary_dim:
            what, fix = "the model rotates: its positions are learned", "set it to 0"
        elif most == 0:
            what, fix = "the pre-rope layout caches", "set it to 0, or layout latent+rope"
        else:
            what, fix = "the head has that rotate", f"choose an even number up to {most}"
        raise PlanError(f"rope_dim {rope_dim} is more than {what}", hint=fix, field="rope_dim")
    return rope_dim


def most_rope_dims(recipe: Recipe, facts: ModelFacts) -> int:
    """Rotary dims a rope key can have: a head's, or all heads' when any mixed pair may be kept."""
    if layout_of(recipe, facts) == PRE_ROPE:
        return 0
    chosen_by_damage = recipe.rope_mix != "none" and recipe.rope_select == "logit-damage"
    return facts.rotary_dim * (facts.kv_heads if chosen_by_damage else 1)


def largest_rank(recipe: Recipe, facts: ModelFacts, rope_dim: int) -> int:
    """The rank of the latent that loses nothing of keys and values."""
    keys, values = key_limits(recipe, facts, rope_dim)
    if recipe.is_split:
        return keys + values
    return min(facts.latent_inputs, facts.kv_heads * facts.head_dim + _key_rank(recipe, facts, rope_dim))


def key_limits(recipe: Recipe, facts: ModelFacts, rope_dim: int) -> tuple[int, int]:
    """(keys, values): ranks of a split latent that lose nothing."""
    keys = min(facts.latent_inputs, _key_rank(recipe, facts, rope_dim))
    return keys, min(facts.latent_inputs, facts.kv_heads * facts.head_dim)


def _key_rank(recipe: Recipe, facts: ModelFacts, rope_dim: int) -> int:
    """Rank of the keys that go into the latent: all but what rotates."""
    return facts.kv_heads * facts.head_dim - groups_of(recipe, facts) * rope_dim
