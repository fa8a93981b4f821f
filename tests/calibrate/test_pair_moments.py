# SPDX-License-Identifier: Apache-2.0
"""Second moments of rotary pairs follow from the input moments alone."""

import pytest
import torch
from torch import Tensor

from core.rope.moments import pair_moments

TOKENS, WIDTH, HEADS, HEAD_DIM = 50, 12, 3, 8
# float64, sums of a few hundred products of numbers near 1
EXACT = {"rtol": 1e-12, "atol": 1e-10}


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def token_by_token(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The definition: every key as complex numbers, summed over the tokens one by one."""
    total = torch.zeros(HEAD_DIM // 2, HEADS, HEADS, dtype=torch.complex128)
    for token in x:
        key = weight @ token + (bias if bias is not None else 0)
        heads = key.view(HEADS, HEAD_DIM)
        for f in range(HEAD_DIM // 2):
            pair = torch.complex(heads[:, f], heads[:, f + HEAD_DIM // 2])
            total[f] += torch.outer(pair, pair.conj())
    return total / len(x)


@pytest.mark.parametrize("has_bias", [False, True])
def test_moments_from_the_covariance_equal_a_sum_over_tokens(has_bias: bool) -> None:
    x = draw(TOKENS, WIDTH, seed=0) + 0.5  # off centre, so that the mean matters
    weight = draw(HEADS * HEAD_DIM, WIDTH, seed=1)
    bias = draw(HEADS * HEAD_DIM, seed=2) if has_bias else None
    found = pair_moments(weight, x.T @ x / TOKENS, HEADS, bias, x.mean(dim=0))
    torch.testing.assert_close(found, token_by_token(x, weight, bias), **EXACT)


def test_the_moments_do_not_see_the_rotation() -> None:
    """E[k_f k_f^H] is the same before and after RoPE at any position: the phase cancels across heads."""
    x, weight = draw(TOKENS, WIDTH, seed=0), draw(HEADS * HEAD_DIM, WIDTH, seed=1)
    angle = torch.linspace(0.1, 2.0, HEAD_DIM // 2, dtype=torch.float64)
    first, second = weight.view(HEADS, 2, HEAD_DIM // 2, WIDTH).unbind(dim=1)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    rotated = torch.stack([first * cos - second * sin, second * cos + first * sin], dim=1)
    covariance = x.T @ x / TOKENS
    turned = pair_moments(rotated.reshape(weight.shape), covariance, HEADS)
    torch.testing.assert_close(turned, pair_moments(weight, covariance, HEADS), **EXACT)


def test_a_bias_without_a_mean_is_refused() -> None:
    weight, bias = draw(HEADS * HEAD_DIM, WIDTH, seed=1), draw(HEADS * HEAD_DIM, seed=2)
    with pytest.raises(ValueError, match="need the mean"):
        pair_moments(weight, torch.eye(WIDTH), HEADS, bias)
