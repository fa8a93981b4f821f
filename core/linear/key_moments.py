# SPDX-License-Identifier: Apache-2.0
"""What queries meet: second moments of the converted keys, seen from the query's position.

A score is q_n . k_n + q_r . R_{-delta} k_r at distance delta, so the error of a query is measured in
M = sum_delta p(delta) E[k_delta k_delta^T] with k_delta = [k_n; R_{-delta} k_r] and p the attention mass that
a head puts on the distance delta: the query's side of LatentLLM's joint QK, with the keys' side given.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from core.modeling import PRE_ROPE, LatentShape

WORK = torch.float64
# distances that are turned at once, to bound memory
_AT_ONCE = 64


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
    heads, per_group = len(mass), len(mass) // len(keys)
    if shape.layout != PRE_ROPE:
        # a rotary key is shared by all heads, or there is one for each KV head
        shared = rotary.unflatten(0, (shape.groups, -1)).expand(len(keys), -1, -1)
        keys = torch.cat([keys, shared], dim=1)
    plain = keys @ covariance.to(WORK) @ keys.transpose(1, 2)
    inv_freq = tensors["inv_freq"].to(WORK).expand(len(keys), -1)
    blocks = []
    for head in range(heads):
        group = head // per_group
        blocks.append(_turned(plain[group], inv_freq[group], shape.qk_nope_head_dim, mass[head].to(WORK)))
    found: Tensor = torch.block_diag(*blocks)
    return found


def _turned(moment: Tensor, inv_freq: Tensor, nope: int, mass: Tensor) -> Tensor:
    """sum_delta p(delta) R_{-delta} M R_{-delta}^T; the first `nope` dims do not turn."""
    total = torch.zeros_like(moment)
    for start in range(0, len(mass), _AT_ONCE):
        part = mass[start : start + _AT_ONCE]
        angles = -torch.arange(start, start + len(part), device=moment.device)[:, None] * inv_freq
        turn = _rotation(angles, nope)
        total += torch.einsum("p,pij,jk,plk->il", part.to(moment.device), turn, moment, turn)
    return total / mass.sum()


def _rotation(angles: Tensor, nope: int) -> Tensor:
    """Rotation matrices (offsets, d, d) of angles (offsets, d_r/2); pairs are (i, i + d_r/2)."""
    cos, sin = torch.diag_embed(angles.cos()), torch.diag_embed(angles.sin())
    turning = torch.cat([torch.cat([cos, -sin], dim=2), torch.cat([sin, cos], dim=2)], dim=1)
    found = turning.new_zeros(len(angles), nope + turning.shape[1], nope + turning.shape[2])
    found[:, range(nope), range(nope)] = 1
    found[:, nope:, nope:] = turning
    return found
