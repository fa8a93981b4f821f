# SPDX-License-Identifier: Apache-2.0
"""factor_form joint-qk-vo: keys that lose least of the scores, values that lose least of the output."""

from dataclasses import replace

import pytest
import torch
from random_layer import Case, random_case
from torch import Tensor

from core.convert import LatentLayer, convert_layer
from core.linear.key_moments import key_moments
from core.recipe import Recipe

KEEP = 0.4


@pytest.fixture(scope="module")
def case() -> Case:
    return random_case()


def converted(case: Case, form: str) -> LatentLayer:
    recipe = Recipe(
        layout="pre-rope",
        factor_form=form,
        factor_input="root-covariance",
        factor_output="attention-aware",
    )
    plan = case.plan(recipe, keep=KEEP)
    return convert_layer(case.weights, case.statistics, case.inv_freq, plan, recipe)


def kept(latent: LatentLayer, part: str) -> Tensor:
    """W_K' or W_V' of a split latent."""
    down = latent.tensors["kv_a_proj_with_mqa.weight"]
    up = latent.tensors[f"{part}_b_proj.weight"]
    return up @ (down[: up.shape[1]] if part == "k" else down[-up.shape[1] :])


def score_error(case: Case, latent: LatentLayer) -> float:
    """Mean squared error of the scores of the original queries, weighted by attention."""
    lost, width = case.weights.k - kept(latent, "k"), case.weights.k.shape[1]
    shape = case.converted(Recipe(layout="pre-rope"), keep=KEEP).shape
    # keys that are all that was lost, behind a latent that is the input itself
    shape = replace(shape, kv_lora_rank=width, k_rank=width, v_rank=width)
    eye = torch.eye(width, dtype=torch.float64)
    tensors = latent.tensors | {"kv_a_proj_with_mqa.weight": eye, "k_b_proj.weight": lost}
    covariance = case.statistics.input_covariance
    moments = key_moments(tensors, shape, covariance, case.statistics.attention_mass)
    return float((moments * (case.weights.q @ covariance @ case.weights.q.T)).sum())


def output_error(case: Case, latent: LatentLayer) -> float:
    """Mean squared error of what single heads add, each on its own."""
    lost = (case.weights.v - kept(latent, "v")).view(-1, case.shape.head_dim, case.weights.v.shape[1])
    group = case.weights.o.shape[1] // (len(lost) * case.shape.head_dim)
    output = case.weights.o.double().view(len(case.weights.o), -1, case.shape.head_dim)
    made = torch.einsum("nhd,hdx->hnx", output, lost.double().repeat_interleave(group, dim=0))
    return float(torch.einsum("hnx,hny,xy->", made, made, case.statistics.input_covariance))


def test_keys_lose_less_of_the_scores_than_those_that_know_no_positions(case: Case) -> None:
    """Split in the attention-aware metric measures keys as if nothing turned between query and key."""
    joint, split = converted(case, "joint-qk-vo"), converted(case, "split")
    assert score_error(case, joint) < score_error(case, split)


def test_values_are_those_of_the_metric_behind_w_o(case: Case) -> None:
    """With W_O whole both have the same optimum, in closed form."""
    joint, split = converted(case, "joint-qk-vo"), converted(case, "split")
    assert output_error(case, joint) == pytest.approx(output_error(case, split), rel=1e-9)
    assert torch.allclose(kept(joint, "v"), kept(split, "v"), atol=1e-8)
