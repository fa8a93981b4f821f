# SPDX-License-Identifier: Apache-2.0
"""Widths layer by layer: the budget's, or the ranks and rotary pairs that somebody chose for each layer."""

from collections.abc import Sequence

from core.errors import PlanError
from core.facts import ModelFacts
from core.spec import JobSpec, Recipe
from core.widths import (
    PRE_ROPE,
    Widths,
    check_rope_dim,
    largest_rank,
    rope_dim_of,
    smallest_rank,
    solve,
)

Pairs = Sequence[Sequence[int]]


def layer_widths(spec: JobSpec, facts: ModelFacts) -> list[Widths]:
    """What the budget, or the chosen ranks and pairs, give every layer; raises PlanError with the fix.

    With a budget every layer caches the same, so a layer that keeps more pairs has a smaller latent.
    """
    if spec.rope_pairs is None and spec.layer_ranks is None:
        return [solve(spec, facts)] * facts.layers
    if spec.rope_pairs is None:
        dims = [_usual_rope_dim(spec, facts)] * facts.layers
    else:
        dims = [_dims_of(pairs, layer, spec.recipe, facts) for layer, pairs in _each(spec.rope_pairs, facts)]
    if spec.layer_ranks is None:
        return [solve(spec, facts, rope_dim, f"layer {layer}: ") for layer, rope_dim in enumerate(dims)]
    _check_count(spec.layer_ranks, "layer_ranks", facts)
    for layer, (rank, rope_dim) in enumerate(zip(spec.layer_ranks, dims, strict=True)):
        _check_rank(rank, rope_dim, layer, spec, facts)
    return [Widths(rope_dim, rank) for rope_dim, rank in zip(dims, spec.layer_ranks, strict=True)]


def kept_pairs(spec: JobSpec, layer: int) -> tuple[tuple[int, ...], ...] | None:
    """The pairs that somebody chose for `layer`, or None; a list that is too short has none for it."""
    pairs = spec.rope_pairs
    return pairs[layer] if pairs is not None and layer < len(pairs) else None


def _usual_rope_dim(spec: JobSpec, facts: ModelFacts) -> int:
    if spec.rope_dim is not None:
        return check_rope_dim(spec.rope_dim, spec.recipe, facts)
    return rope_dim_of(spec, facts)


def _each(pairs: Sequence[Pairs], facts: ModelFacts) -> list[tuple[int, Pairs]]:
    _check_count(pairs, "rope_pairs", facts)
    return list(enumerate(pairs))


def _check_count(given: Sequence[object], field: str, facts: ModelFacts) -> None:
    if len(given) != facts.layers:
        raise PlanError(
            f"{field} names {len(given)} layers, the model has {facts.layers}",
            hint=f"give one entry for each of layers 0 to {facts.layers - 1}",
            field=field,
        )


def _check_rank(rank: int, rope_dim: int, layer: int, spec: JobSpec, facts: ModelFacts) -> None:
    least, most = smallest_rank(spec.recipe), largest_rank(spec.recipe, facts, rope_dim)
    if rank > most:
        raise PlanError(
            f"layer {layer}: rank {rank} is more than the full rank",
            hint=f"choose {most} or less; {most} keeps the layer's keys and values exact",
            field="layer_ranks",
        )
    if rank < least:
        raise PlanError(
            f"layer {layer}: rank {rank} leaves keys or values without a latent",
            hint=f"choose {least} to {most}, or factor_form joint",
            field="layer_ranks",
        )


def _dims_of(pairs: Pairs, layer: int, recipe: Recipe, facts: ModelFacts) -> int:
    """Rotary dims per rope key that the pairs of one layer make."""
    count = facts.rotary_dim // 2
    if not count:
        raise _wrong(layer, "nothing rotates in this model, its positions are learned", "remove rope_pairs")
    if recipe.layout == PRE_ROPE:
        raise _wrong(layer, "the pre-rope layout drops no rotation", "remove rope_pairs, or take latent+rope")
    if len(pairs) != facts.kv_heads:
        raise _wrong(
            layer, f"{len(pairs)} rows of pairs", f"give one row for each of {facts.kv_heads} KV heads"
        )
    for head, row in enumerate(pairs):
        beyond = [pair for pair in row if pair >= count]
        if beyond:
            raise _wrong(
                layer, f"KV head {head} has no pair {beyond[0]}", f"a head has pairs 0 to {count - 1}"
            )
    sizes = [len(row) for row in pairs]
    if recipe.rope_mix != "none":
        return 2 * sum(sizes)
    if len(set(sizes)) > 1:
        raise _wrong(
            layer,
            f"KV heads keep {', '.join(map(str, sizes))} pairs",
            "keep equally many in every KV head of a layer: their cached keys have one width",
        )
    return 2 * sizes[0]


def _wrong(layer: int, what: str, fix: str) -> PlanError:
    return PlanError(f"layer {layer}: {what}", hint=fix, field="rope_pairs")
