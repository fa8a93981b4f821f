# SPDX-License-Identifier: Apache-2.0
"""The tensors of a linear layer as the shipped model file names them: factors, residual, bits."""

from collections.abc import Mapping

import torch
from torch import Tensor

from core.factor.junction import BlockIdentity, apply_junction, block_identity
from core.factor.quantise import quantise
from core.factor.sparse import Sparse
from core.linear.factoring import Factored, Linear
from core.linear.shapes import LinearPlan

INT8, INT32 = "int8", "int32"


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


def stored_tensors(plan: LinearPlan, factored: Factored | Linear, junction: str) -> dict[str, Tensor]:
    """The tensors of `factored` with its factors in the form of `junction`, in the plan's bits."""
    if isinstance(factored, Linear):
        whole = {"weight": factored.weight, "bias": factored.bias}
        return {name: value for name, value in whole.items() if value is not None}
    factors = apply_junction(factored.up, factored.down, junction)
    found = _weight("up", factors.up, plan.bits)
    if isinstance(factors, BlockIdentity):
        found["down.order"] = _order(factors)
        found |= _weight("down.rest", factors.rest, plan.bits)
    else:
        found |= _weight("down", factors.down, plan.bits)
    if factored.bias is not None:
        found["up.bias"] = factored.bias
    if factored.residual is not None:
        found |= _residual(factored.residual, plan.sparse)
    return found


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
    found = quantise(weight)
    return {f"{name}.weight": found.codes, f"{name}.scale": found.scales}


def _residual(sparse: Sparse, count: int) -> dict[str, Tensor]:
    """As many entries as were planned; those that would have gained nothing are zeros in the last row."""
    missing = count - len(sparse.values)
    starts = sparse.starts.clone()
    starts[-1] += missing
    return {
        "residual.values": torch.cat([sparse.values, sparse.values.new_zeros(missing)]),
        "residual.columns": torch.cat([sparse.columns, sparse.columns.new_zeros(missing)]),
        "residual.starts": starts,
    }
