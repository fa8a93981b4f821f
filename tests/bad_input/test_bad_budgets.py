# SPDX-License-Identifier: Apache-2.0
"""Budgets that cannot be: the tiny model has 2 KV heads of 16 dims and is 64 wide."""

from collections.abc import Callable
from typing import Any

import pytest

from core.errors import WorkbenchError

CASES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "rank 0": ({"rope_dim": 2, "kv_rank": 0}, "kv_rank", "at least 1", "at least one number"),
    "rank too large": ({"rope_dim": 2, "kv_rank": 64}, "kv_rank", "more than the full rank", "30 or less"),
    "odd rope dim": ({"rope_dim": 3, "kv_rank": 4}, "rope_dim", "even", "pairs"),
    "negative rope dim": ({"rope_dim": -2, "kv_rank": 4}, "rope_dim", "not negative", "pairs"),
    "rope dim too large": ({"rope_dim": 18, "kv_rank": 4}, "rope_dim", "more than the head has", "up to 16"),
    "rope dim alone": ({"rope_dim": 2}, "kv_rank", "kv_rank is not set", "together"),
    "rank alone": ({"kv_rank": 4}, "rope_dim", "rope_dim is not set", "together"),
    "keep 0": ({"keep": 0.0}, "keep", "above 0 and at most 1, got 0", "0.3125"),
    "keep 2": ({"keep": 2.0}, "keep", "above 0 and at most 1, got 2", "0.3125"),
    "keep too small": ({"keep": 0.05}, "keep", "leaves no room", "keep at least 0.079"),
    "unknown choice": ({"recipe": {"rope_select": "best"}}, "recipe.rope_select", "not a known", "2-norm"),
    "no share of the weights": ({"weights_keep": 0.0}, "weights_keep", "above 0", "keeps 80 %"),
    "weights below keys and values": ({"weights_keep": 0.01}, "weights_keep", "nothing beside", "keep more"),
    "choices that contradict": (
        {"recipe": {"layout": "pre-rope", "rope_derotate": "expected"}},
        "recipe.layout",
        "nothing to select, mix or replace",
        "rope_derotate identity",
    ),
    "gradients switched off": (
        {"recipe": {"factor_output": "fisher"}, "calibration": {"fisher_tokens": 0}},
        "calibration.fisher_tokens",
        "backward pass",
        "4096",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_impossible_budget(case: str, refused: Callable[..., WorkbenchError]) -> None:
    fields, field, message, hint = CASES[case]
    error = refused(**fields)
    assert message in error.message
    assert hint in error.hint
    assert error.field == field
