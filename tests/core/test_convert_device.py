# SPDX-License-Identifier: Apache-2.0
"""A layer is converted on the device of its weights, shown without such a device.

FakeTensorMode runs the shapes and devices of every operation and refuses to mix devices, as CUDA does.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from core.calibrate.layer_statistics import LayerStatistics
from core.convert import AttentionWeights, Factoring
from core.factor.metrics import INPUT, OUTPUT
from core.planning import LayerPlan
from core.rope.split import RopeSplit
from core.spec import Recipe

HEADS, KV_HEADS, HEAD_DIM, WIDTH = 4, 2, 16, 64
# a device that this build of torch knows by name and that is not the CPU
DEVICE = "lazy"


def layer_plan(rope_dim: int, k_rank: int, v_rank: int, rank: int) -> LayerPlan:
    return LayerPlan(
        index=0,
        groups=KV_HEADS,
        qk_rope_head_dim=rope_dim,
        qk_nope_head_dim=HEAD_DIM - rope_dim,
        kv_lora_rank=rank,
        k_rank=k_rank,
        v_rank=v_rank,
        cached_numbers=rank + KV_HEADS * rope_dim,
        parameters_before=0,
        parameters_after=0,
    )


def statistics() -> LayerStatistics:
    """Statistics of the right shapes on the device."""
    both = 2 * KV_HEADS * HEAD_DIM
    shapes = {
        "contribution": (KV_HEADS, HEAD_DIM // 2),
        "input_covariance": (WIDTH, WIDTH),
        "input_mean": (WIDTH,),
        "input_l1": (WIDTH,),
        "attention_mass": (HEADS, 8),
        "fisher": (both, both),
        "fisher_input": (2, WIDTH, WIDTH),
        "fisher_mean": (2, WIDTH),
        "derotation": (2, HEADS, HEAD_DIM // 2),
    }
    made = {name: torch.ones(*size, dtype=torch.float64, device=DEVICE) for name, size in shapes.items()}
    return LayerStatistics(**made, tokens=10, fisher_tokens=10)


def split(rope_dim: int) -> RopeSplit:
    """A split of the right shapes on the device; choosing pairs by their scores needs real numbers."""

    def rows(count: int, dims: int) -> torch.Tensor:
        return torch.ones(count, dims, WIDTH + 1, dtype=torch.float64, device=DEVICE)

    nope = HEAD_DIM - rope_dim
    return RopeSplit(
        query_nope=rows(HEADS, nope),
        query_rope=rows(HEADS, rope_dim),
        key_nope=rows(KV_HEADS, nope),
        key_rope=rows(KV_HEADS, rope_dim),
        inv_freq=torch.ones(KV_HEADS, rope_dim // 2, device=DEVICE),
        nope_rows=torch.ones(KV_HEADS, nope, dtype=torch.int64, device=DEVICE),
        kept=[],
    )


METRICS = [*((one, "identity") for one in INPUT), *(("root-covariance", one) for one in OUTPUT)]


@pytest.mark.parametrize("metrics", METRICS, ids="+".join)
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("rope_dim", [0, 4, HEAD_DIM])
@pytest.mark.parametrize("form", ["joint", "split"])
def test_a_layer_is_converted_where_its_weights_are(
    form: str, rope_dim: int, has_bias: bool, metrics: tuple[str, str]
) -> None:
    v_rank, k_rank = 6, 0 if form == "split" and rope_dim == HEAD_DIM else 6
    plan = layer_plan(rope_dim, k_rank, v_rank, k_rank + v_rank if form == "split" else 6)
    recipe = Recipe(factor_form=form, factor_input=metrics[0], factor_output=metrics[1])
    kv, q = KV_HEADS * HEAD_DIM, HEADS * HEAD_DIM
    with FakeTensorMode():
        biases = [torch.ones(n, device=DEVICE) if has_bias else None for n in (q, kv, kv, WIDTH)]
        weights = AttentionWeights(
            *(torch.ones(n, WIDTH, device=DEVICE) for n in (q, kv, kv)),
            torch.ones(WIDTH, q, device=DEVICE),
            *biases,
        )
        factoring = Factoring(weights, split(rope_dim), statistics(), plan, recipe)
        tensors, key_error, value_error = factoring.at(plan)
    found = {name: tensor.device.type for name, tensor in tensors.items()}
    assert set(found.values()) == {DEVICE}, found
    assert key_error.device.type == value_error.device.type == DEVICE
    assert ("kv_a_proj_with_mqa.bias" in found) == has_bias


def test_the_stand_in_for_a_gpu_refuses_to_mix_devices() -> None:
    """Otherwise the test above could not fail."""
    with FakeTensorMode(), pytest.raises(Exception, match="device"):
        torch.cat([torch.ones(2, device=DEVICE), torch.ones(2)])
