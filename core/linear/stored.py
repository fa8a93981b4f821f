# SPDX-License-Identifier: Apache-2.0
"""The tensors of a linear layer as the shipped model file names them: factors, residual, bits."""

from collections.abc import Mapping

import torch
from torch import Tensor

from core.factor.junction import BlockIdentity, apply_junction, block_identity
from core.linear.shapes import LinearPlan

INT8, INT32 = "int8", "int32"
# largest value of a symmetric int8 number
_TOP = 127


def stored_shapes(plan: LinearPlan, has_bias: bool) -> dict[str, tuple[str | None, tuple[int, ...]]]:
    """(dtype, shape) of every tensor of the layer, by name; a dtype of None is that of the model."""
    rows, columns, rank = plan.out_features, plan.in_features, plan.rank
    if not rank:
        found: dict[str, tuple[str | None, tuple[int, ...]]] = {"weight": (None, (rows, columns))}
        return found | ({"bias": (None, (rows,))} if has_bias else {})
    found = _linear("up", rows, rank, plan.bits)
    if plan.identity:
        found |= {"down.order": (INT32, (columns,))} | _linear("down.rest", rank, columns - rank, plan.bits)
    else:
        found |= _linear("down", rank, columns, plan.bits)
    if has_bias:
        found["up.bias"] = (None, (rows,))
    if plan.sparse:
        found |= {
            "residual.values": (None, (plan.sparse,)),
            "residual.columns": (INT32, (plan.sparse,)),
            "residual.starts": (INT32, (rows + 1,)),
        }
    return found


def stored_tensors(
    plan: LinearPlan, up: Tensor, down: Tensor, bias: Tensor | None, junction: str
) -> dict[str, Tensor]:
    """up (n, r) and down (r, d) in the form of `junction`, in the plan's bits."""
    factors = apply_junction(up, down, junction)
    found = _weight("up", factors.up, plan.bits)
    if isinstance(factors, BlockIdentity):
        found["down.order"] = _order(factors)
        found |= _weight("down.rest", factors.rest, plan.bits)
    else:
        found |= _weight("down", factors.down, plan.bits)
    return found if bias is None else found | {"up.bias": bias}


def identity_latent(tensors: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """A latent attention's tensors with its down-projection as [I, B] on permuted inputs (IdentityDown).

    The latent becomes J^{-1} c, and what reads it, U_k and U_v, takes J: the same keys and values.
    """
    found, name = dict(tensors), "kv_a_proj_with_mqa"
    whole = found.pop(f"{name}.weight")
    keys = len(found["k_b_proj.weight"])
    both = torch.cat([found["k_b_proj.weight"], found["v_b_proj.weight"]])
    factors = block_identity(both, whole[:rank])
    found["k_b_proj.weight"], found["v_b_proj.weight"] = factors.up[:keys], factors.up[keys:]
    found[f"{name}.latent.order"] = _order(factors)
    found[f"{name}.latent.rest.weight"] = factors.rest
    if len(whole) > rank:
        found[f"{name}.rotary.weight"] = whole[rank:]
    return found


def _order(factors: BlockIdentity) -> Tensor:
    return torch.cat([factors.pivots, factors.others]).to(torch.int32)


def _linear(name: str, rows: int, columns: int, bits: int) -> dict[str, tuple[str | None, tuple[int, ...]]]:
    if bits == 8:
        return {f"{name}.weight": (INT8, (rows, columns)), f"{name}.scale": (None, (rows,))}
    return {f"{name}.weight": (None, (rows, columns))}


def _weight(name: str, weight: Tensor, bits: int) -> dict[str, Tensor]:
    if bits != 8:
        return {f"{name}.weight": weight}
    scale = weight.abs().amax(dim=1).clamp_min(torch.finfo(weight.dtype).tiny) / _TOP
    return {f"{name}.weight": (weight / scale[:, None]).round().to(torch.int8), f"{name}.scale": scale}
