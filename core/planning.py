# SPDX-License-Identifier: Apache-2.0
"""A plan: what every layer will look like and cost, from facts alone. Pure, instant, printable."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from core.arch import find_architecture
from core.calibrate.text import is_picture_file, text_parts
from core.errors import PlanError
from core.facts import ModelFacts, Problem
from core.kv_budget import DTYPE_BYTES, cache_bytes, latent_bytes, latent_numbers
from core.layer_widths import kept_pairs, layer_widths
from core.linear.budget import Ranks, original_numbers, uniform, whole_linears, with_ranks
from core.linear.shapes import ATTENTION_PARTS, LinearPlan
from core.recipe import IDENTITY_JUNCTION
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
    latent_bits: int = Field(16, description="bits of a cached number; 16 is the model's dtype")
    parameters_before: int = Field(description="attention weights of the original layer")
    parameters_after: int
    kv_identity: bool = Field(
        False, description="the down-projection of the latent is [I, B] on permuted inputs"
    )
    linears: tuple[LinearPlan, ...] = Field(
        (), description="the other linear layers of the decoder layer when there is a budget of weights"
    )

    def cached_bytes(self, dtype_bytes: int) -> int:
        """Bytes cached per token for a model whose numbers have `dtype_bytes`."""
        rope = self.cached_numbers - self.kv_lora_rank
        return latent_bytes(self.kv_lora_rank, rope, self.latent_bits, dtype_bytes)

    def rank_of(self, part: str) -> int | None:
        """The rank of a linear layer, None where it stays whole."""
        return next((one.rank for one in self.linears if one.part == part and one.rank), None)

    @property
    def linears_saved(self) -> int:
        """Numbers that the factored linear layers take less."""
        return sum(linear.whole - linear.numbers for linear in self.linears)

    @property
    def key_value_parameters(self) -> int:
        """Weights of the projections of keys and values alone, down and up."""
        return self.parameters_after - sum(one.whole for one in self.linears if one.part in ATTENTION_PARTS)

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
    linears_before: int = Field(0, description="numbers of the original's linear layers")
    linears_after: int = Field(
        0, description="what stays of them; both are 0 when there is no budget of weights"
    )
    problems: tuple[Problem, ...] = ()

    @property
    def whole(self) -> "Plan":
        """The same conversion before its linear layers become smaller."""
        return self._smaller_in(())

    @property
    def before_output(self) -> "Plan":
        """The same conversion with no linear layer smaller but the queries: what W_O is fitted behind."""
        return self._smaller_in(("query",))

    def _smaller_in(self, parts: tuple[str, ...]) -> "Plan":
        layers = []
        for layer in self.layers:
            linears = tuple(one for one in layer.linears if one.part in parts)
            layers.append(layer.model_copy(update={"linears": linears, "kv_identity": False}))
        return self.model_copy(update={"layers": tuple(layers)})

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


def make_plan(
    spec: JobSpec,
    facts: ModelFacts,
    widths: Sequence[Widths] | None = None,
    ranks: Ranks | None = None,
) -> Plan:
    """Solve `spec`'s budgets into widths for every layer of the model; never raises, see Plan.problems.

    `widths`, one per layer, and `ranks` of the linear layers take the place of what the budgets say once
    calibration has allocated them.
    """
    try:
        solved = layer_widths(spec, facts)
        problems = [*facts.problems, *_problems(spec, facts)]
    except PlanError as error:
        solved = [Widths(facts.head_dim, facts.kv_heads * facts.head_dim)] * facts.layers
        problems = [
            *facts.problems,
            Problem(message=error.message, hint=error.hint, field=error.field or "keep"),
        ]
    layers = tuple(_layer(spec, facts, index, one) for index, one in enumerate(widths or solved))
    try:
        layers = _with_linears(spec, facts, layers, ranks)
    except PlanError as error:
        problems.append(Problem(message=error.message, hint=error.hint, field=error.field or "weights_keep"))
    dtype = facts.dtype if spec.dtype == "checkpoint" else spec.dtype
    saved = sum(layer.parameters_before - layer.parameters_after + layer.linears_saved for layer in layers)
    before = original_numbers(facts) if spec.weights_keep is not None else 0
    after = sum(layer.cached_bytes(DTYPE_BYTES.get(dtype, 2)) for layer in layers)
    return Plan(
        model=facts.name,
        keep=after / facts.kv_bytes_per_token,
        layers=layers,
        dtype=dtype,
        kv_bytes_per_token_before=facts.kv_bytes_per_token,
        kv_bytes_per_token_after=after,
        parameters_before=facts.parameters,
        parameters_after=facts.parameters - saved,
        linears_before=before,
        linears_after=before - saved if before else 0,
        problems=tuple(problems),
    )


def _with_linears(
    spec: JobSpec, facts: ModelFacts, layers: tuple[LayerPlan, ...], ranks: Ranks | None
) -> tuple[LayerPlan, ...]:
    """The layers with the budget of weights solved; raises PlanError when it cannot be."""
    if spec.weights_keep is None:
        return layers
    # each side of a split latent would need a block of its own
    is_identity = spec.recipe.junction == IDENTITY_JUNCTION and not spec.recipe.is_split
    found = []
    for layer in layers:
        spared = layer.kv_lora_rank**2 if is_identity else 0
        whole = whole_linears(facts, layer.qk_nope_head_dim + layer.qk_rope_head_dim)
        update = {
            "linears": whole,
            "kv_identity": is_identity,
            "parameters_after": layer.parameters_after - spared,
        }
        found.append(layer.model_copy(update=update))
    whole_layers = [layer.linears for layer in found]
    fixed = sum(layer.key_value_parameters for layer in found)
    if ranks is None:
        solved = uniform(spec, facts, whole_layers, fixed)
    else:
        solved = with_ranks(whole_layers, ranks, spec.recipe)
    return tuple(
        layer.model_copy(update={"linears": linears}) for layer, linears in zip(found, solved, strict=True)
    )


def _problems(spec: JobSpec, facts: ModelFacts) -> list[Problem]:
    """What of the request does not fit the model, widths apart."""
    return [*_start_problems(spec, facts), *_context_problems(spec, facts), *_image_problems(spec, facts)]


def _image_problems(spec: JobSpec, facts: ModelFacts) -> list[Problem]:
    """Images for a model that sees none."""
    family = find_architecture(facts.model_type)
    if family is None or family.sees_images:
        return []
    return [
        Problem(
            message=f"'{Path(part).name}' has images in it, and {facts.name} reads text alone",
            hint="calibrate on a text, or take a LLaVA-style model",
            field="calibration.text",
        )
        for part in text_parts(spec.calibration.text)
        if is_picture_file(part)
    ]


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
            hint=f"set {field} to {facts.max_context} or less, in the recipe's text or as an option",
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
    if recipe.is_split:
        keys, values = key_limits(recipe, facts, rope_dim)
        # half each (MHA2MLA, SVD_split); what one side cannot use goes to the other
        k_rank = min(max(rank // 2, rank - values), keys)
        v_rank = rank - k_rank
    per_head = facts.hidden_size * facts.head_dim
    rebuilt = facts.head_dim if is_pre_rope else nope
    query_width, latent_width, front = read_widths(facts)
    query = facts.heads * (facts.head_dim if is_pre_rope else nope + rope_dim) * query_width
    latent = latent_width * (rank + groups * rope_dim)
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
        latent_bits=recipe.latent_bits,
        parameters_before=2 * per_head * (facts.heads + facts.kv_heads),
        parameters_after=front + query + latent + up + facts.heads * per_head,
    )


def read_widths(facts: ModelFacts) -> tuple[int, int, int]:
    """(inputs of the map that makes a head's query, inputs of the one that makes the latent, weights before).

    A layer that norms queries and keys keeps their projections and that of the values in front of the maps.
    """
    if not facts.has_qk_norm:
        return facts.hidden_size, facts.hidden_size, 0
    keys = 2 * facts.kv_heads * facts.head_dim
    return facts.head_dim, keys, facts.hidden_size * (facts.heads * facts.head_dim + keys)
