# SPDX-License-Identifier: Apache-2.0
"""Tiny bases that differ in what attention can differ in."""

from typing import Any

import pytest
import torch

from tests.modeling.exact_mla import make_base

YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    # on cos and sin; a power of two, because the base rounds cos * factor to float32 a second time (the
    # default, 1.1386, leaves 4e-7), which would hide a mistake smaller than that
    "attention_factor": 2.0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "gqa": {},
    "mha": {"kv_heads": 4},
    "mqa": {"kv_heads": 1},
    "bias": {"attention_bias": True},
    "yarn": {"rope_parameters": YARN},
    "llama3": {"rope_parameters": LLAMA3},
}


@pytest.fixture(params=VARIANTS)
def base(request: pytest.FixtureRequest) -> Any:
    """Each variant in float64."""
    return make_base(**VARIANTS[request.param])


@pytest.fixture
def gqa() -> Any:
    """Four query heads over two KV heads, float64."""
    return make_base()


@pytest.fixture(autouse=True)
def _inference(request: pytest.FixtureRequest) -> Any:
    """No gradients, except where a test is about them."""
    with torch.set_grad_enabled("gradient" in request.node.name):
        yield
