# SPDX-License-Identifier: Apache-2.0
"""One layer: (weights, statistics, plan) -> LatentLayer. Pure; every recipe ends in the same object."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from core.calibrate.layer_statistics import LayerStatistics
from core.factor.joint_qk import Scores
from core.factor.joint_vo import Outputs
from core.factor.latent_grid import grid, level
from core.factor.local import WORK
from core.factor.metrics import INPUT, OUTPUT, Stacked, input_moments, weigh_keys
from core.factor.qk_vo import JointQKVO
from core.factor.svd import FORM, Joint, Split
from core.modeling import PRE_ROPE
from core.planning import LayerPlan
from core.qk_norm import behind_norms, queries_apart
from core.recipe import JOINT_QK_VO
from core.rope.parting import part
from core.rope.split import RopeSplit, affine
from core.spec import Recipe


@dataclass(frozen=True)
class AttentionWeights:
    """The projections of one original layer: q (n_h*d_h, d), k and v (n_kv*d_h, d), o (d, n_h*d_h).

    Biases are None where the model has none. Where the layer norms queries and keys, d counts the numbers of
    u (core/qk_norm.py) and `front` has the tensors that make u of the layer's input.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor
    q_bias: Tensor | None = None
    k_bias: Tensor | None = None
    v_bias: Tensor | None = None
    o_bias: Tensor | None = None
    front: Mapping[str, Tensor] | None = None


@dataclass(frozen=True)
class LatentLayer:
    """The canonical layer of core/modeling/modeling_mla.py; `tensors` are named as the model names them.

    `scores` (rows of pairs) is what the choice of rotary pairs went by, `kept` the pairs of each row that
    stay rotary. `key_error`, `value_error`: relative error of the keys in the latent and of the values on the
    calibration text. `rest` are tensors beside the attention that were changed too, by their path in the
    decoder layer: linear layers that became smaller.
    """

    tensors: dict[str, Tensor]
    scores: list[list[float]]
    kept: list[list[int]]
    key_error: float
    value_error: float
    rest: dict[str, Tensor] = field(default_factory=dict)


class LayerConverter:
    """One attention layer with everything done that does not depend on the rank of its latent.

    The arithmetic runs where the weights are. inv_freq: (d_h/2,) the model's frequencies after its own rope
    scaling. A scaling that also multiplies cos and sin (yarn) is the model's business: it scales every score
    alike, rotary or not. shrinkage: see Calibration.shrinkage.
    """

    def __init__(
        self,
        weights: AttentionWeights,
        statistics: LayerStatistics,
        inv_freq: Tensor,
        plan: LayerPlan,
        recipe: Recipe,
        shrinkage: float = 0.0,
    ) -> None:
        """Of `plan` the ranks of the latent are not used."""
        statistics = statistics.to(weights.k.device)
        if weights.front is not None:
            statistics = queries_apart(statistics, len(weights.q))
        query, key = affine(weights.q, weights.q_bias), affine(weights.k, weights.k_bias)
        self.split, self.scores = part(query, key, statistics, inv_freq.to(weights.k.device), plan, recipe)
        self.factoring = Factoring(weights, self.split, statistics, plan, recipe, shrinkage)
        self._front, self._queries = weights.front, (len(statistics.attention_mass), len(weights.q))

    def at(self, plan: LayerPlan) -> LatentLayer:
        """The layer with the ranks of `plan`; tensors on the CPU, in float64 (inv_freq in float32)."""
        tensors, key_error, value_error = self.factoring.at(plan)
        if self._front is not None:
            tensors = behind_norms(tensors, self._front, *self._queries)
        return LatentLayer(
            {name: tensor.cpu() for name, tensor in tensors.items()},
            self.scores.tolist(),
            self.split.kept,
            float(key_error),
            float(value_error),
        )


class Factoring:
    """The keys and values of one layer, decomposed; nothing here branches on a number."""

    def __init__(
        self,
        weights: AttentionWeights,
        split: RopeSplit,
        statistics: LayerStatistics,
        plan: LayerPlan,
        recipe: Recipe,
        shrinkage: float = 0.0,
    ) -> None:
        """`split` and `statistics` are on the device of the weights."""
        self._weights, self._split = weights, split
        self.stacked = stack(weights, split, statistics)
        moments = input_moments(statistics, recipe.factor_input)
        self._mean = moments.mean if plan.mean_bias else None
        measured = moments.centred() if plan.mean_bias else moments
        self.inputs = INPUT[recipe.factor_input](measured.damped(shrinkage))
        output = weigh_keys(
            OUTPUT[recipe.factor_output](self.stacked, statistics), len(self.stacked.key), recipe.key_weight
        )
        self.form: Joint | Split | JointQKVO
        if recipe.factor_form == JOINT_QK_VO:
            self.form = joint_form(weights, split, statistics, self.inputs @ self.inputs.T, plan)
        else:
            self.form = FORM[recipe.factor_form](self.stacked, output, self.inputs)
        self._covariance = statistics.input_covariance.to(WORK)
        self._centre = statistics.input_mean.to(WORK)
        self._spread = self._covariance - torch.outer(self._centre, self._centre)

    def at(self, plan: LayerPlan) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """(tensors, key error, value error) for the ranks of `plan`."""
        split, weights, stacked = self._split, self._weights, self.stacked
        factors = self.form.factors(plan.k_rank, plan.v_rank)
        is_quantised = plan.latent_bits < 16
        if is_quantised:
            factors = level(factors, self._spread)
        down_k, down_v = factors.down[: plan.k_rank], factors.down[-plan.v_rank :]
        lost_k, lost_v = stacked.key - factors.k_up @ down_k, stacked.value - factors.v_up @ down_v
        tensors = {
            "q_proj.weight": torch.cat([split.query_nope, split.query_rope], dim=1).flatten(0, 1)[:, :-1],
            "kv_a_proj_with_mqa.weight": torch.cat([factors.down, split.key_rope.flatten(0, 1)[:, :-1]]),
            "k_b_proj.weight": factors.k_up,
            "v_b_proj.weight": factors.v_up,
            "o_proj.weight": weights.o.to(WORK),
            "inv_freq": split.inv_freq.to(torch.float32),
        }
        if is_quantised:
            scale, zero = grid(factors.down, split.key_rope, self._spread, self._centre)
            tensors |= {"kv_scale": scale, "kv_zero": zero}
        tensors |= _biases(weights, split, plan, self._mean, lost_k, lost_v)
        return (
            tensors,
            relative_error(lost_k, stacked.key, self._covariance),
            relative_error(lost_v, stacked.value, self._covariance),
        )


def converters_for(
    rope_dims: Iterable[int],
    weights: AttentionWeights,
    statistics: LayerStatistics,
    inv_freq: Tensor,
    plan: LayerPlan,
    recipe: Recipe,
    shrinkage: float = 0.0,
) -> dict[int, LayerConverter]:
    """One converter for each number of rotary dims, ascending; in pre-rope that is 0, and `plan` holds."""
    return {
        rope_dim: LayerConverter(
            weights,
            statistics,
            inv_freq,
            plan if plan.layout == PRE_ROPE else plan.model_copy(update={"qk_rope_head_dim": rope_dim}),
            recipe,
            shrinkage,
        )
        for rope_dim in sorted(set(rope_dims))
    }


def convert_layer(
    weights: AttentionWeights,
    statistics: LayerStatistics,
    inv_freq: Tensor,
    plan: LayerPlan,
    recipe: Recipe,
    shrinkage: float = 0.0,
) -> LatentLayer:
    """Convert one attention layer; see LayerConverter for the arguments."""
    return LayerConverter(weights, statistics, inv_freq, plan, recipe, shrinkage).at(plan)


def stack(weights: AttentionWeights, split: RopeSplit, statistics: LayerStatistics) -> Stacked:
    """The keys that go into the latent over the values, with what meets them on the other side."""
    kv_heads, width, _ = split.key_nope.shape
    head_dim = weights.k.shape[0] // kv_heads
    first_rows = torch.arange(kv_heads, device=split.nope_rows.device)[:, None] * head_dim
    query = split.query_nope if split.query_nope.shape[1] else split.query_rope
    query = query[:, :, :-1].unflatten(0, (kv_heads, -1))
    met = query @ statistics.input_covariance.to(WORK) @ query.transpose(2, 3)
    output = weights.o.to(WORK).view(weights.o.shape[0], kv_heads, -1, head_dim)
    seen = torch.einsum("dghi,dghj->gij", output, output)
    return Stacked(
        key=split.key_nope[:, :, :-1].flatten(0, 1),
        value=weights.v.to(WORK),
        rows=(first_rows + split.nope_rows).flatten(),
        query=torch.block_diag(*met.sum(dim=1)) if width else weights.k.new_zeros(0, 0, dtype=WORK),
        output=torch.block_diag(*seen),
    )


def joint_form(
    weights: AttentionWeights,
    split: RopeSplit,
    statistics: LayerStatistics,
    covariance: Tensor,
    plan: LayerPlan,
) -> JointQKVO:
    """The scores of the keys that go into the latent, and the outputs, for inputs of `covariance` (d, d)."""
    is_turned = not split.query_nope.shape[1]
    query = split.query_rope if is_turned else split.query_nope
    heads, width = query.shape[0], weights.o.shape[0]
    mass = statistics.attention_mass.to(WORK)
    scores = Scores(
        query[:, :, :-1],
        split.key_nope[:, :, :-1],
        covariance,
        mass / mass.sum(dim=1, keepdim=True),
        split.inv_freq[0] if is_turned else None,
    )
    values = weights.v.to(WORK).view(split.key_nope.shape[0], -1, weights.v.shape[1])
    outputs = Outputs(values, weights.o.to(WORK).view(width, heads, -1), covariance)
    return JointQKVO(scores, outputs, plan.rank_of("query"), plan.rank_of("output"))


def relative_error(lost: Tensor, original: Tensor, covariance: Tensor) -> Tensor:
    """sqrt(E|lost x|^2 / E|original x|^2) with E[x x^T] = covariance; 0 when there is nothing to lose."""
    if original.numel() == 0:
        return covariance.new_zeros(())
    error = ((lost @ covariance) * lost).sum()
    size = ((original @ covariance) * original).sum()
    return (error.clamp_min(0) / size.clamp_min(torch.finfo(WORK).tiny)).sqrt()


def _biases(
    weights: AttentionWeights,
    split: RopeSplit,
    plan: LayerPlan,
    mean: Tensor | None,
    lost_key: Tensor,
    lost_value: Tensor,
) -> dict[str, Tensor]:
    """Where biases go so that nothing of them is cached, and what the lost part is on average.

    On dims that do not rotate a key bias adds q.b to every logit of a query, which the softmax ignores; on
    rotary dims it is kept. A value bias reaches the output as W_O b_V, since the attention weights sum to
    one. With `mean` the biases also carry (W - W') E[x], the best constant for what was cut (LatentLLM).
    """
    found = {}
    if weights.q_bias is not None:
        query = torch.cat([split.query_nope, split.query_rope], dim=1)
        found["q_proj.bias"] = query[:, :, -1].flatten()
    has_bias = weights.k_bias is not None or mean is not None
    if has_bias and plan.layout == PRE_ROPE:
        bias = split.key_nope[:, :, -1].flatten()
        found["k_b_proj.bias"] = bias if mean is None else bias + lost_key @ mean
    elif has_bias:
        latent = split.key_rope.new_zeros(plan.kv_lora_rank)
        found["kv_a_proj_with_mqa.bias"] = torch.cat([latent, split.key_rope[:, :, -1].flatten()])
    if weights.v_bias is not None or weights.o_bias is not None or mean is not None:
        found["o_proj.bias"] = _output_bias(weights, split.key_nope.shape[0], mean, lost_value)
    return found


def _output_bias(weights: AttentionWeights, kv_heads: int, mean: Tensor | None, lost_value: Tensor) -> Tensor:
    """W_O (b_V + (W_V - W_V') E[x]) + b_O."""
    value = lost_value.new_zeros(lost_value.shape[0])
    if weights.v_bias is not None:
        value = value + weights.v_bias.to(WORK)
    if mean is not None:
        value = value + lost_value @ mean
    group = weights.o.shape[1] // len(value)
    total = weights.o.to(WORK) @ value.view(kv_heads, -1).repeat_interleave(group, dim=0).flatten()
    return total if weights.o_bias is None else total + weights.o_bias.to(WORK)
