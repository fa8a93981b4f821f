# SPDX-License-Identifier: Apache-2.0
"""What queries meet: second moments of the converted keys, seen from the query's position.

A score is q_n . k_n + q_r . R_D k_r at distance D, so the error of a query is measured in
M = sum_D p(D) E[k_D k_D^T] with k_D = [k_n; R_D k_r] and p the attention mass that a head puts on the
distance D. With the keys made for whole queries first, and queries then for these keys, it is the first sweep
of LatentLLM's joint QK (core/factor/joint_qk.py). On the demo going on until nothing moves takes 0.0 to 0.9 %
of the error of the scores away (16 problems, tests/bench/bench_linear.py), so the engine stops there.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from core.factor.rotary_average import RotaryAverage
from core.modeling import PRE_ROPE, LatentShape

WORK = torch.float64


def key_moments(
    tensors: Mapping[str, Tensor], shape: LatentShape, covariance: Tensor, mass: Tensor
) -> Tensor:
    """M of every query head, block-diagonal: (n_h (d_n + d_r), n_h (d_n + d_r)), float64.

    tensors: those of the latent attention before any junction; covariance E[x x^T] (d, d) of its input;
    mass (n_h, context): attention by distance.
    """
    down = tensors["kv_a_proj_with_mqa.weight"].to(WORK)
    latent, rotary = down[: shape.kv_lora_rank], down[shape.kv_lora_rank :]
    up = tensors["k_b_proj.weight"].to(WORK)
    keys = (up @ latent[: shape.k_rank]).unflatten(0, (-1, shape.rebuilt_key_dims))
    per_group = len(mass) // len(keys)
    if shape.layout != PRE_ROPE:
        # a rotary key is shared by all heads, or there is one for each KV head
        shared = rotary.unflatten(0, (shape.groups, -1)).expand(len(keys), -1, -1)
        keys = torch.cat([keys, shared], dim=1)
    # the average turns the first dims of a head, the layer keeps them last
    turned_first = keys.roll(-shape.qk_nope_head_dim, dims=1)
    plain = turned_first @ covariance.to(WORK) @ turned_first.mT
    inv_freq = tensors["inv_freq"].to(WORK).expand(len(keys), -1).repeat_interleave(per_group, dim=0)
    # p sums to 1 for every head
    average = RotaryAverage(inv_freq, mass / mass.sum(dim=1, keepdim=True), keys.shape[1])
    met = average.turned(plain.repeat_interleave(per_group, dim=0))
    kept = met.roll((shape.qk_nope_head_dim, shape.qk_nope_head_dim), dims=(1, 2))
    found: Tensor = torch.block_diag(*kept)
    return found
