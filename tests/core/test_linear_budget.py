# SPDX-License-Identifier: Apache-2.0
"""A budget of weights in ranks: counted as stored, never exceeded, spent where it saves loss."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.linear.allocate import candidates, predicted
from core.linear.factoring import Factored
from core.linear.key_moments import key_moments
from core.linear.shapes import LinearPlan
from core.linear.stored import stored_shapes, stored_tensors
from core.modeling import PRE_ROPE, FactorShape, LatentShape
from core.modeling.modeling_mla import LatentLinear, rotate
from core.recipe import Recipe

JUNCTIONS = ("left", "right", "symmetric", "block-identity")


def plan(rows: int, columns: int, part: str = "up") -> LinearPlan:
    return LinearPlan(part=part, path=f"mlp.{part}", out_features=rows, in_features=columns)


@given(
    rows=st.integers(1, 300),
    columns=st.integers(1, 300),
    share=st.floats(0.01, 1.2),
    junction=st.sampled_from(JUNCTIONS),
    sparse=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_a_rank_is_the_largest_that_fits(
    rows: int, columns: int, share: float, junction: str, sparse: float
) -> None:
    recipe = Recipe(junction=junction, sparse_share=sparse)
    whole = plan(rows, columns)
    numbers = share * rows * columns
    found = whole.within(numbers, recipe)
    if numbers >= rows * columns:
        assert found == whole
        return
    assert found.numbers <= numbers + 1e-6 or found.rank == 1
    if found.rank < min(rows, columns):
        assert whole.at(found.rank + 1, recipe).numbers > numbers * (1 - 1e-9) - 1


@pytest.mark.parametrize("junction", JUNCTIONS)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("sparse", [0.0, 0.2])
def test_a_stored_layer_has_the_planned_tensors_and_computes_its_factors(
    junction: str, bits: int, sparse: float
) -> None:
    draw = torch.Generator().manual_seed(0)
    recipe = Recipe(junction=junction, factor_bits=bits, sparse_share=sparse, mean_bias=True)
    one = plan(24, 20).at(7, recipe)
    up = torch.randn(24, 7, generator=draw, dtype=torch.float64)
    down = torch.randn(7, 20, generator=draw, dtype=torch.float64)
    bias = torch.randn(24, generator=draw, dtype=torch.float64)
    residual, dense = None, torch.zeros(24, 20, dtype=torch.float64)
    if one.sparse:
        from core.factor.sparse import Sparse

        # fewer entries than planned, as when more would gain nothing
        dense.view(-1)[torch.randperm(480, generator=draw)[: one.sparse - 1]] = 1.5
        residual = Sparse.of(dense)
    tensors = stored_tensors(one, Factored(up, down, bias, residual), junction)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        name: shape for name, (_, shape) in stored_shapes(one, has_bias=True).items()
    }
    module = LatentLinear(20, 24, FactorShape(7, one.identity, one.sparse, bits), bias=True)
    module.load_state_dict(tensors, strict=True, assign=True)
    module = module.double()
    x = torch.randn(3, 5, 20, generator=draw, dtype=torch.float64)
    wanted = x @ (up @ down + dense).T + bias
    # exact but for float32 scales and rounding; in 8 bits a number is off by up to 1/254 of its row's largest
    allowed = 0.05 if bits == 8 else 1e-10
    assert (module(x) - wanted).abs().max() <= allowed * wanted.abs().max()
    stored = sum(t.numel() for name, t in tensors.items() if name.endswith(("weight", "values")))
    assert stored == one.numbers


def test_numbers_go_where_they_save_the_most_loss() -> None:
    recipe = Recipe(linear_allocate="loss-aware")
    whole = [(plan(40, 40, "up"), plan(40, 40, "down")) for _ in range(2)]
    uniform = [tuple(one.within(0.5 * one.whole, recipe) for one in layer) for layer in whole]
    # the first layer's matrices are full of what matters, the second's nearly empty
    flat = np.linspace(1.0, 0.0, 41)
    losses = {
        (index, part): flat * (10.0 if index == 0 else 0.1) for index in (0, 1) for part in ("up", "down")
    }
    found = candidates(uniform, losses, recipe)
    room = sum(one.numbers for layer in uniform for one in layer)
    for layers in found.values():
        assert sum(one.numbers for layer in layers for one in layer) <= room
    assert predicted(found["loss-aware"], losses) < predicted(found["uniform"], losses)
    first, second = (sum(one.numbers for one in layer) for layer in found["loss-aware"])
    assert first > second
    # and no layer is starved
    assert second >= 0.5 * sum(one.numbers for one in uniform[1])


@pytest.mark.parametrize("layout", ["pre-rope", "latent+rope"])
def test_the_metric_of_a_query_is_the_mean_squared_error_of_its_scores(layout: str) -> None:
    """Against scores computed the long way, by rotating keys and queries at their positions."""
    draw = torch.Generator().manual_seed(1)
    heads, kv_heads, rope, width, rank, nope = 4, 2, 6, 10, 9, 0 if layout == PRE_ROPE else 4
    groups = 0 if layout == PRE_ROPE else kv_heads
    shape = LatentShape(
        kv_lora_rank=rank, k_rank=rank, v_rank=rank, groups=groups, qk_rope_head_dim=rope,
        qk_nope_head_dim=nope, v_head_dim=4, q_bias=False, kv_a_bias=False, o_bias=False, layout=layout,
    )  # fmt: skip
    up_rows = kv_heads * shape.rebuilt_key_dims
    tensors = {
        "kv_a_proj_with_mqa.weight": torch.randn(
            rank + groups * rope, width, generator=draw, dtype=torch.float64
        ),
        "k_b_proj.weight": torch.randn(up_rows, rank, generator=draw, dtype=torch.float64),
        "inv_freq": torch.rand(shape.rotations, rope // 2, generator=draw, dtype=torch.float64),
    }
    x = torch.randn(5, width, generator=draw, dtype=torch.float64)
    mass = torch.rand(heads, 3, generator=draw, dtype=torch.float64)
    mass = mass / mass.sum(dim=1, keepdim=True)
    found = key_moments(tensors, shape, x.T @ x / len(x), mass)
    error = torch.randn(heads, nope + rope, generator=draw, dtype=torch.float64)
    wanted = 0.0
    latent = x @ tensors["kv_a_proj_with_mqa.weight"].T
    keys = (latent[:, :rank] @ tensors["k_b_proj.weight"].T).unflatten(-1, (kv_heads, -1))
    for head in range(heads):
        group = head // (heads // kv_heads)
        inv_freq = tensors["inv_freq"][group if groups else 0]
        for distance in range(3):
            angle = distance * inv_freq
            if layout == PRE_ROPE:
                still, turning = keys[:, group, :0], keys[:, group]
            else:
                still = keys[:, group]
                turning = latent[:, rank + group * rope : rank + (group + 1) * rope]
            at_query = rotate(error[head, nope:], angle.cos(), angle.sin())
            score = still @ error[head, :nope] + turning @ at_query
            wanted += float(mass[head, distance] * score.square().mean())
    measured = error.flatten() @ found @ error.flatten()
    assert float(measured) == pytest.approx(wanted, rel=1e-12)
