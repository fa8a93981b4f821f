# SPDX-License-Identifier: Apache-2.0
"""A layer is converted on the device of its weights, shown without such a device.

FakeTensorMode runs the shapes and devices of every operation and refuses to mix devices, as CUDA does.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from core.convert import AttentionWeights, latent_tensors
from core.planning import LayerPlan
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


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("rope_dim", [0, 4, HEAD_DIM])
@pytest.mark.parametrize("form", ["joint", "split"])
def test_a_layer_is_converted_where_its_weights_are(form: str, rope_dim: int, has_bias: bool) -> None:
    v_rank, k_rank = 6, 0 if form == "split" and rope_dim == HEAD_DIM else 6
    plan = layer_plan(rope_dim, k_rank, v_rank, k_rank + v_rank if form == "split" else 6)
    recipe = Recipe(rope_select="2-norm", factor_form=form)
    kv, q = KV_HEADS * HEAD_DIM, HEADS * HEAD_DIM
    with FakeTensorMode():
        biases = [torch.ones(n, device=DEVICE) if has_bias else None for n in (q, kv, kv, WIDTH)]
        weights = AttentionWeights(
            *(torch.ones(n, WIDTH, device=DEVICE) for n in (q, kv, kv)),
            torch.ones(WIDTH, q, device=DEVICE),
            *biases,
        )
        kept = torch.zeros(KV_HEADS, rope_dim // 2, dtype=torch.int64)
        tensors, key_error, value_error = latent_tensors(
            weights, kept, torch.ones(WIDTH, WIDTH), torch.ones(HEAD_DIM // 2), plan, recipe
        )
    found = {name: tensor.device.type for name, tensor in tensors.items()}
    assert set(found.values()) == {DEVICE}, found
    assert key_error.device.type == value_error.device.type == DEVICE
    assert ("kv_a_proj_with_mqa.bias" in found) == has_bias


def test_the_stand_in_for_a_gpu_refuses_to_mix_devices() -> None:
    """Otherwise the test above could not fail."""
    with FakeTensorMode(), pytest.raises(Exception, match="device"):
        torch.cat([torch.ones(2, device=DEVICE), torch.ones(2)])
