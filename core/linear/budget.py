# SPDX-License-Identifier: Apache-2.0
"""Solve --weights-keep: what every linear layer may take. Integers and facts only, no torch."""

from collections.abc import Sequence

from core.arch import find_architecture
from core.errors import PlanError
from core.facts import ModelFacts
from core.linear.shapes import LinearPlan
from core.recipe import Recipe
from core.spec import JobSpec

# for each layer the rank of each of its linear layers, in the order of `whole_linears`; 0 leaves one whole
Ranks = Sequence[Sequence[int]]


def whole_linears(facts: ModelFacts, query_dims: int) -> tuple[LinearPlan, ...]:
    """The linear layers of one decoder layer that can be factored, whole.

    query_dims: dims of a head's query after the conversion, which need not be the original's. Raises
    PlanError when the family's MLP is not three (or two) plain matrices.
    """
    family = find_architecture(facts.model_type)
    is_plain = family is not None and family.fused is None and not family.has_transposed_weights
    if family is None or not is_plain or family.mlp is None or not facts.mlp_size:
        raise PlanError(
            f"the linear layers of {facts.family} models cannot be factored: "
            "they are fused, transposed or a mixture of experts",
            hint="leave weights_keep empty and shrink the cache alone",
            field="weights_keep",
        )
    if facts.has_qk_norm:
        raise PlanError(
            f"projections of {facts.family} models cannot be factored yet: norms of queries and keys follow",
            hint="leave weights_keep empty and shrink the cache alone",
            field="weights_keep",
        )
    attention = family.attention.removeprefix(family.layer + ".")
    gate, up, down = family.mlp
    width, inner = facts.hidden_size, facts.mlp_size
    found = {
        # the converted attention has names of its own, whatever the original's are
        "query": (f"{attention}.q_proj", facts.heads * query_dims, width),
        "output": (f"{attention}.o_proj", width, facts.heads * facts.head_dim),
        "gate": (gate, inner, width),
        "up": (up, inner, width),
        "down": (down, width, inner),
    }
    return tuple(
        LinearPlan(part=part, path=path, out_features=rows, in_features=columns)
        for part, (path, rows, columns) in found.items()
        if path
    )


def uniform(
    spec: JobSpec, facts: ModelFacts, whole: Sequence[Sequence[LinearPlan]], fixed: int
) -> list[tuple[LinearPlan, ...]]:
    """Every linear layer keeps the same share of its numbers, what is left beside `fixed` ones.

    whole: the linear layers of each decoder layer; fixed: numbers of the projections of keys and values,
    which the cache's budget decides. Raises PlanError when they alone take more than the budget.
    """
    room = linear_room(spec, facts, fixed)
    share = room / sum(linear.whole for layer in whole for linear in layer)
    if share <= 0:
        needed = fixed / original_numbers(facts)
        raise PlanError(
            f"weights_keep {spec.weights_keep:g} leaves nothing beside keys and values",
            hint=f"they take {100 * needed:.1f} % alone: keep more, or less of the cache",
            field="weights_keep",
        )
    return [tuple(one.within(share * one.whole, spec.recipe) for one in layer) for layer in whole]


def with_ranks(
    whole: Sequence[Sequence[LinearPlan]], ranks: Ranks, recipe: Recipe
) -> list[tuple[LinearPlan, ...]]:
    """The linear layers with the ranks that an allocation chose."""
    return [
        tuple(one.at(rank, recipe) for one, rank in zip(layer, chosen, strict=True))
        for layer, chosen in zip(whole, ranks, strict=True)
    ]


def linear_room(spec: JobSpec, facts: ModelFacts, fixed: int) -> float:
    """Numbers that the linear layers beside keys and values may take in all."""
    return (spec.weights_keep or 1.0) * original_numbers(facts) - fixed


def original_numbers(facts: ModelFacts) -> int:
    """Numbers of all linear layers of the original's decoder layers; biases are not counted."""
    family = find_architecture(facts.model_type)
    matrices = 3 if family and family.mlp and family.mlp[0] else 2
    attention = 2 * facts.hidden_size * facts.head_dim * (facts.heads + facts.kv_heads)
    return facts.layers * (attention + matrices * facts.hidden_size * facts.mlp_size)
