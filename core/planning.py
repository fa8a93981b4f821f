# SPDX-License-Identifier: Apache-2.0
"""A plan: what every layer will look like and cost, from facts alone. Pure, instant, printable."""

from collections.abc import Sequence

from pydantic import Field

from core.errors import PlanError
from core.facts import ModelFacts, Problem
from core.kv_budget import DTYPE_BYTES, cache_bytes, latent_numbers
from core.layer_widths import kept_pairs, layer_widths
from core.spec import Frozen, JobSpec
from core.widths import PRE_ROPE, Widths, groups_of, key_limits, layout_of, rule_of


class LayerPlan(Frozen):
    """Widths of one latent layer. `k_rank` and `v_rank` both equal `kv_lora_rank` when K and V share the
    latent (joint); they add up to it when each reads its own part (split).

    A head's query and key have `qk_nope_head_dim + qk_rope_head_dim` dims, which need not be the original's:
    TransMLA's heads keep all d_h non-rotary dims beside shared rotary ones. A pre-rope layer has groups 0,
    rotary dims d_h and other dims 0."""

    index: int
    layout: str = Field(
        "latent+rope", description="what is cached: latent and rotated keys, or pre-rope: the latent alone"
    )
    groups: int = Field(description="rope keys cached per token: one per KV head in MHA2MLA, 0 in pre-rope")
    qk_rope_head_dim: int = Field(description="rotary dims per head that stay rotary")
    qk_nope_head_dim: int = Field(description="head dims that do not rotate")
    kv_lora_rank: int = Field(description="numbers of the latent, over all heads")
    k_rank: int
    v_rank: int
    mean_bias: bool = Field(
        False, description="biases make up for the mean of what is cut from keys and values"
    )
    kept_pairs: tuple[tuple[int, ...], ...] | None = Field(
        None,
        description="pairs that keep RoPE, a row for each KV head, when they were chosen; else the rule's",
    )
    cached_numbers: int = Field(description="numbers cached per token")
    parameters_before: int = Field(description="attention weights of the original layer")
    parameters_after: int

    @property
    def widths(self) -> Widths:
        """What a budget was solved into for this layer."""
        return Widths(self.qk_rope_head_dim if self.groups else 0, self.kv_lora_rank)


class Plan(Frozen):
    """The whole conversion before anything heavy starts. It is blocked when `problems` is not empty."""

    model: str
    keep: float = Field(
        description="fraction of cache bytes that stays, as achieved; above 1 when a wider dtype outweighs it"
    )
    layers: tuple[LayerPlan, ...]
    dtype: str
    kv_bytes_per_token_before: int
    kv_bytes_per_token_after: int
    parameters_before: int
    parameters_after: int
    problems: tuple[Problem, ...] = ()

    @property
    def factor(self) -> float:
        """How many times smaller the cache becomes."""
        return self.kv_bytes_per_token_before / max(1, self.kv_bytes_per_token_after)

    def cache_bytes_at(self, context: int, batch: int) -> tuple[int, int]:
        """(before, after) bytes of a cache filled with `batch` sequences of `context` tokens."""
        return (
            cache_bytes(self.kv_bytes_per_token_before, context, batch),
            cache_bytes(self.kv_bytes_per_token_after, context, batch),
        )

    def raise_if_blocked(self) -> None:
        """Raise PlanError for the first problem, if there is one."""
        if self.problems:
            first = self.problems[0]
            raise PlanError(first.message, hint=first.hint, field=first.field)


def make_plan(spec: JobSpec, facts: ModelFacts, widths: Sequence[Widths] | None = None) -> Plan:
    """Solve `spec`'s budget into widths for every layer of the model; never raises, see Plan.problems.

    `widths`, one per layer, takes the place of the budget's once calibration has allocated them.
    """
    try:
        solved = layer_widths(spec, facts)
        problems = [*facts.problems, *_start_problems(spec, facts), *_context_problems(spec, facts)]
    except PlanError as error:
        solved = [Widths(facts.head_dim, facts.kv_heads * facts.head_dim)] * facts.layers
        problems = [
            *facts.problems,
            Problem(message=error.message, hint=error.hint, field=error.field or "keep"),
        ]
    layers = tuple(_layer(spec, facts, index, one) for index, one in enumerate(widths or solved))
    dtype = facts.dtype if spec.dtype == "checkpoint" else spec.dtype
    saved = sum(layer.parameters_before - layer.parameters_after for layer in layers)
    after = sum(layer.cached_numbers for layer in layers) * DTYPE_BYTES.get(dtype, 2)
    return Plan(
        model=facts.name,
        keep=after / facts.kv_bytes_per_token,
        layers=layers,
        dtype=dtype,
        kv_bytes_per_token_before=facts.kv_bytes_per_token,
        kv_bytes_per_token_after=after,
        parameters_before=facts.parameters,
        parameters_after=facts.parameters - saved,
        problems=tuple(problems),
    )


def _start_problems(spec: JobSpec, facts: ModelFacts) -> list[Problem]:
    pairs = facts.rotary_dim // 2
    if spec.recipe.rope_select_start < max(pairs, 1):
        return []
    return [
        Problem(
            message=f"rope_select_start {spec.recipe.rope_select_start} is behind the last pair",
            hint=f"a head has {pairs} pairs: choose 0 to {pairs - 1}" if pairs else "set it to 0",
            field="recipe.rope_select_start",
        )
    ]


def _context_problems(spec: JobSpec, facts: ModelFacts) -> list[Problem]:
    """Texts longer than a model that learned its positions can read at all."""
    if facts.rotary_dim:
        return []
    asked = {"calibration.context": spec.calibration.context}
    if spec.evaluation is not None:
        asked["evaluation.context"] = spec.evaluation.context
    return [
        Problem(
            message=f"{field} is {context}, and the model has learned {facts.max_context} positions",
            hint=f"choose {facts.max_context} or less",
            field=field,
        )
        for field, context in asked.items()
        if context > facts.max_context
    ]


def _layer(spec: JobSpec, facts: ModelFacts, index: int, widths: Widths) -> LayerPlan:
    recipe, groups = spec.recipe, groups_of(spec.recipe, facts)
    layout, rule = layout_of(recipe, facts), rule_of(recipe, facts)
    rope_dim, rank, is_pre_rope = widths.rope_dim, widths.rank, layout == PRE_ROPE
    # mixed heads keep all their dims beside the shared rotary ones
    nope = {PRE_ROPE: 0, "none": facts.head_dim - rope_dim}.get(rule, facts.head_dim)
    k_rank = v_rank = rank
    if recipe.factor_form == "split":
        keys, values = key_limits(recipe, facts, rope_dim)
        # half each (MHA2MLA, SVD_split); what one side cannot use goes to the other
        k_rank = min(max(rank // 2, rank - values), keys)
        v_rank = rank - k_rank
    width, per_head = facts.hidden_size, facts.hidden_size * facts.head_dim
    rebuilt = facts.head_dim if is_pre_rope else nope
    query = facts.heads * (facts.head_dim if is_pre_rope else nope + rope_dim) * width
    latent = width * (rank + groups * rope_dim)
    up = facts.kv_heads * (rebuilt * k_rank + facts.head_dim * v_rank)
    return LayerPlan(
        index=index,
        layout=layout,
        groups=groups,
        qk_rope_head_dim=facts.head_dim if is_pre_rope else rope_dim,
        qk_nope_head_dim=nope,
        kv_lora_rank=rank,
        k_rank=k_rank,
        v_rank=v_rank,
        mean_bias=recipe.mean_bias,
        kept_pairs=kept_pairs(spec, index),
        cached_numbers=latent_numbers(rank, groups, rope_dim),
        parameters_before=2 * per_head * (facts.heads + facts.kv_heads),
        parameters_after=query + latent + up + facts.heads * per_head,
    )
