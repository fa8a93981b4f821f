# SPDX-License-Identifier: Apache-2.0
"""A plan: what every layer will look like and cost, from facts alone. Pure, instant, printable."""

import math

from pydantic import Field

from core.errors import PlanError
from core.facts import ModelFacts, Problem
from core.kv_budget import DTYPE_BYTES, cache_bytes, latent_numbers
from core.spec import Frozen, JobSpec

# up to the published -68.75 % budget MHA2MLA keeps 1/8 of the head dim as rotary dims (paper, table 1)
PAPER_KEEP = 0.3125


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
    cached_numbers: int = Field(description="numbers cached per token")
    parameters_before: int = Field(description="attention weights of the original layer")
    parameters_after: int


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


def make_plan(spec: JobSpec, facts: ModelFacts) -> Plan:
    """Solve `spec`'s budget into widths for every layer of the model; never raises, see Plan.problems."""
    try:
        rope_dim, rank = _solve(spec, facts)
        problems = [*facts.problems, *_start_problems(spec, facts)]
    except PlanError as error:
        rope_dim, rank = facts.head_dim, facts.kv_heads * facts.head_dim
        problems = [
            *facts.problems,
            Problem(message=error.message, hint=error.hint, field=error.field or "keep"),
        ]
    layers = tuple(_layer(spec, facts, index, rope_dim, rank) for index in range(facts.layers))
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
    pairs = facts.head_dim // 2
    if spec.recipe.rope_select_start < pairs:
        return []
    return [
        Problem(
            message=f"rope_select_start {spec.recipe.rope_select_start} is behind the last pair",
            hint=f"a head has {pairs} pairs: choose 0 to {pairs - 1}",
            field="recipe.rope_select_start",
        )
    ]


def full_rank(facts: ModelFacts, rope_dim: int) -> int:
    """The joint latent width that loses nothing: rank of [K_nope; V], at most the model's width."""
    return min(facts.hidden_size, facts.kv_heads * (2 * facts.head_dim - rope_dim))


def _solve(spec: JobSpec, facts: ModelFacts) -> tuple[int, int]:
    """(rotary dims per head, latent numbers over all heads); raises PlanError with the fix."""
    if spec.rope_dim is not None or spec.kv_rank is not None:
        return _explicit(spec, facts)
    if spec.keep is None:
        raise PlanError("no budget given", hint="set keep, or rope_dim and kv_rank", field="keep")
    rope_dim = _paper_rope_dim(spec.keep, facts.head_dim)
    rank = math.floor(spec.keep * facts.kv_numbers_per_layer + 1e-9) - facts.kv_heads * rope_dim
    smallest = 2 if spec.recipe.factor_form == "split" else 1
    if rank < smallest:
        need = (facts.kv_heads * rope_dim + smallest) / facts.kv_numbers_per_layer
        raise PlanError(
            f"keep {spec.keep:g} leaves no room for a latent beside {rope_dim} rotary dims per head",
            hint=f"keep at least {math.ceil(need * 1000) / 1000:g}, or set rope_dim and kv_rank",
            field="keep",
        )
    return rope_dim, min(rank, _largest_rank(spec, facts, rope_dim))


def _paper_rope_dim(keep: float, head_dim: int) -> int:
    """Rotary dims per head: d_h/8 as in the paper, then rising in a straight line to all of them at keep 1,
    where the conversion is exact. The paper gives no budget above -68.75 %."""
    share = 1 / 8 + 7 / 8 * max(0.0, keep - PAPER_KEEP) / (1 - PAPER_KEEP)
    return max(2, 2 * math.floor(share * head_dim / 2 + 1e-9))


def _explicit(spec: JobSpec, facts: ModelFacts) -> tuple[int, int]:
    if spec.rope_dim is None or spec.kv_rank is None:
        missing = "rope_dim" if spec.rope_dim is None else "kv_rank"
        raise PlanError(f"{missing} is not set", hint="give rope_dim and kv_rank together", field=missing)
    if spec.rope_dim > facts.head_dim:
        raise PlanError(
            f"rope_dim {spec.rope_dim} is more than the head has",
            hint=f"choose an even number up to {facts.head_dim}",
            field="rope_dim",
        )
    rank = spec.kv_rank * facts.kv_heads
    largest = _largest_rank(spec, facts, spec.rope_dim)
    # kv_rank counts per head, so the smallest exact value may overshoot the full rank by less than a head
    if rank >= largest + facts.kv_heads:
        per_head = math.ceil(largest / facts.kv_heads)
        raise PlanError(
            f"kv_rank {spec.kv_rank} is more than the full rank",
            hint=f"choose {per_head} or less; {per_head} keeps keys and values exact",
            field="kv_rank",
        )
    if spec.recipe.factor_form == "split" and rank < 2:
        raise PlanError("split needs a latent of at least 2", hint="raise kv_rank", field="kv_rank")
    return spec.rope_dim, min(rank, largest)


def _largest_rank(spec: JobSpec, facts: ModelFacts, rope_dim: int) -> int:
    if spec.recipe.factor_form == "joint":
        return full_rank(facts, rope_dim)
    keys, values = _split_limits(facts, rope_dim)
    return keys + values


def _split_limits(facts: ModelFacts, rope_dim: int) -> tuple[int, int]:
    keys = min(facts.hidden_size, facts.kv_heads * (facts.head_dim - rope_dim))
    return keys, min(facts.hidden_size, facts.kv_heads * facts.head_dim)


def _layer(spec: JobSpec, facts: ModelFacts, index: int, rope_dim: int, rank: int) -> LayerPlan:
    nope = facts.head_dim - rope_dim
    k_rank = v_rank = rank
    if spec.recipe.factor_form == "split":
        keys, values = _split_limits(facts, rope_dim)
        # half each (MHA2MLA, SVD_split); what one side cannot use goes to the other
        k_rank = min(keys, max(rank // 2, rank - values))
        v_rank = rank - k_rank
    width, heads = facts.hidden_size, facts.kv_heads
    before = 2 * width * heads * facts.head_dim
    after = width * (rank + heads * rope_dim) + heads * (nope * k_rank + facts.head_dim * v_rank)
    return LayerPlan(
        index=index,
        groups=heads,
        qk_rope_head_dim=rope_dim,
        qk_nope_head_dim=nope,
        kv_lora_rank=rank,
        k_rank=k_rank,
        v_rank=v_rank,
        cached_numbers=latent_numbers(rank, heads, rope_dim),
        parameters_before=before + 2 * width * facts.heads * facts.head_dim,
        parameters_after=after + 2 * width * facts.heads * facts.head_dim,
    )
