# SPDX-License-Identifier: Apache-2.0
"""One layer: (weights, statistics, plan) -> LatentLayer. Pure; every recipe ends in the same object."""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.calibrate.layer_statistics import LayerStatistics
from core.factor.svd import FORM, WORK
from core.planning import LayerPlan
from core.rope.select import SELECT
from core.spec import Recipe


@dataclass(frozen=True)
class AttentionWeights:
    """The projections of one original layer: q (n_h*d_h, d), k and v (n_kv*d_h, d), o (d, n_h*d_h).

    Biases are None where the model has none.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor
    q_bias: Tensor | None = None
    k_bias: Tensor | None = None
    v_bias: Tensor | None = None
    o_bias: Tensor | None = None


@dataclass(frozen=True)
class LatentLayer:
    """The canonical layer of core/modeling/modeling_mla.py; `tensors` are named as the model names them.

    `kept` (n_kv, d_r/2) are the pairs that stay rotary. `key_error`, `value_error`: relative error of the
    non-rotary keys and of the values on the calibration text.
    """

    tensors: dict[str, Tensor]
    kept: Tensor
    key_error: float
    value_error: float


def convert_layer(
    weights: AttentionWeights, statistics: LayerStatistics, inv_freq: Tensor, plan: LayerPlan, recipe: Recipe
) -> LatentLayer:
    """Convert one attention layer; tensors come back on the CPU, in float64 (inv_freq in float32).

    The arithmetic runs where the weights are. inv_freq: (d_h/2,) the model's frequencies after its own rope
    scaling. A scaling that also multiplies cos and sin (yarn) is the model's business: it scales every score
    alike, rotary or not.
    """
    kept = SELECT[recipe.rope_select](
        statistics.contribution, plan.qk_rope_head_dim // 2, recipe.rope_select_start
    )
    tensors, key_error, value_error = latent_tensors(
        weights, kept, statistics.input_covariance, inv_freq, plan, recipe
    )
    return LatentLayer(
        {name: tensor.cpu() for name, tensor in tensors.items()}, kept, float(key_error), float(value_error)
    )


def latent_tensors(
    weights: AttentionWeights,
    kept: Tensor,
    covariance: Tensor,
    inv_freq: Tensor,
    plan: LayerPlan,
    recipe: Recipe,
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """(tensors, key error, value error) on the device of the weights, wherever the rest is."""
    device = weights.k.device
    covariance = covariance.to(device, WORK)
    kv_heads, head_dim = plan.groups, plan.qk_rope_head_dim + plan.qk_nope_head_dim
    rope_dims, nope_dims = (dims.to(device) for dims in _split_dims(kept, head_dim))
    key = weights.k.to(WORK).view(kv_heads, head_dim, -1)
    k_rope, k_nope = _gather(key, rope_dims), _gather(key, nope_dims)
    value = weights.v.to(WORK)
    factors = FORM[recipe.factor_form](k_nope.flatten(0, 1), value, plan.k_rank, plan.v_rank)
    down_k, down_v = factors.down[: plan.k_rank], factors.down[-plan.v_rank :]
    tensors = {
        "kv_a_proj_with_mqa.weight": torch.cat([factors.down, k_rope.flatten(0, 1)]),
        "k_b_proj.weight": factors.k_up,
        "v_b_proj.weight": factors.v_up,
        "o_proj.weight": weights.o.to(WORK),
        "inv_freq": inv_freq[kept].to(device, torch.float32),
    }
    tensors |= _query(weights, nope_dims, rope_dims)
    tensors |= _biases(weights, plan, rope_dims)
    return (
        tensors,
        relative_error(k_nope.flatten(0, 1), factors.k_up @ down_k, covariance),
        relative_error(value, factors.v_up @ down_v, covariance),
    )


def relative_error(original: Tensor, approximation: Tensor, covariance: Tensor) -> Tensor:
    """sqrt(E|(W - W')x|^2 / E|Wx|^2) with E[x x^T] = covariance; 0 when there is nothing to approximate."""
    if original.numel() == 0:
        return covariance.new_zeros(())
    difference = original - approximation
    error = ((difference @ covariance) * difference).sum()
    size = ((original @ covariance) * original).sum()
    return (error.clamp_min(0) / size.clamp_min(torch.finfo(WORK).tiny)).sqrt()


def _split_dims(kept: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """(rotary dims, other dims) of each KV head in the half-split layout: pair f is dims f and f + d_h/2.

    kept (n_kv, r) -> (n_kv, 2r) = [first halves, second halves] and (n_kv, d_h - 2r), ascending.
    """
    rope = torch.cat([kept, kept + head_dim // 2], dim=1)
    is_rope = torch.zeros(kept.shape[0], head_dim, dtype=torch.int64).scatter(1, rope, 1)
    # a stable sort puts the other dims first and leaves them ascending
    nope = is_rope.sort(dim=1, stable=True).indices[:, : head_dim - rope.shape[1]]
    return rope, nope


def _gather(heads: Tensor, dims: Tensor) -> Tensor:
    """Pick rows `dims` (n, m) of each head from (n, d_h, d) -> (n, m, d)."""
    return heads.gather(1, dims[:, :, None].expand(-1, -1, heads.shape[2]))


def _query(weights: AttentionWeights, nope_dims: Tensor, rope_dims: Tensor) -> dict[str, Tensor]:
    """Query rows reordered to [nope | rope] per head, each head following its KV head."""
    kv_heads, head_dim = nope_dims.shape[0], nope_dims.shape[1] + rope_dims.shape[1]
    group = weights.q.shape[0] // head_dim // kv_heads
    order = torch.cat([nope_dims, rope_dims], dim=1).repeat_interleave(group, dim=0)
    heads = weights.q.to(WORK).view(kv_heads * group, head_dim, -1)
    found = {"q_proj.weight": _gather(heads, order).flatten(0, 1)}
    if weights.q_bias is not None:
        bias = weights.q_bias.to(WORK).view(kv_heads * group, head_dim, 1)
        found["q_proj.bias"] = _gather(bias, order).flatten()
    return found


def _biases(weights: AttentionWeights, plan: LayerPlan, rope_dims: Tensor) -> dict[str, Tensor]:
    """Where key and value biases go so that nothing of them is cached.

    On non-rotary dims a key bias adds q.b to every logit of a query, which the softmax ignores; on rotary
    dims it is kept. A value bias reaches the output as W_O b_V, since the attention weights sum to one.
    """
    found = {}
    if weights.k_bias is not None:
        bias = weights.k_bias.to(WORK).view(*rope_dims.shape[:1], -1, 1)
        latent = bias.new_zeros(plan.kv_lora_rank)
        found["kv_a_proj_with_mqa.bias"] = torch.cat([latent, _gather(bias, rope_dims).flatten()])
    if weights.v_bias is not None or weights.o_bias is not None:
        total = weights.o.new_zeros(weights.o.shape[0], dtype=WORK)
        if weights.v_bias is not None:
            kv_heads = rope_dims.shape[0]
            group = weights.o.shape[1] // weights.v_bias.shape[0]
            value = weights.v_bias.to(WORK).view(kv_heads, -1).repeat_interleave(group, dim=0).flatten()
            total = total + weights.o.to(WORK) @ value
        if weights.o_bias is not None:
            total = total + weights.o_bias.to(WORK)
        found["o_proj.bias"] = total
    return found
