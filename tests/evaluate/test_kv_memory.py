# SPDX-License-Identifier: Apache-2.0
"""Bytes per token: what the formula says is what a cache holds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import VerificationError
from core.evaluate import formula_kv_bytes, load_model, measure_kv_bytes
from core.evaluate.kv_memory import held_bytes

# WIDTHS of conftest.py: 10 + 2*4, 7 + 2*4, 12 + 1*8, 5 + 2*0
LATENT_NUMBERS = 18 + 15 + 20 + 5
# four layers, keys and values, two KV heads of 16
BASE_NUMBERS = 4 * 2 * 2 * 16


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2)])
def test_a_latent_cache_holds_what_the_formula_says(
    converted: Callable[[str], Path], dtype: str, size: int
) -> None:
    model = load_model(converted(dtype), dtype=None, device="cpu")
    assert formula_kv_bytes(model.config, model.dtype) == LATENT_NUMBERS * size
    assert measure_kv_bytes(model) == LATENT_NUMBERS * size


def test_the_formula_holds_for_the_original_too(tiny_checkpoint: Path) -> None:
    model = load_model(tiny_checkpoint, dtype=None, device="cpu")
    assert formula_kv_bytes(model.config, model.dtype) == BASE_NUMBERS * 4
    assert measure_kv_bytes(model) == BASE_NUMBERS * 4


@pytest.mark.parametrize("tokens", [1, 7, 64])
def test_the_measure_does_not_depend_on_the_length(converted: Callable[[str], Path], tokens: int) -> None:
    model = load_model(converted("float32"), dtype=None, device="cpu")
    assert measure_kv_bytes(model, tokens) == LATENT_NUMBERS * 4


def test_a_view_counts_with_all_it_keeps_alive(converted: Callable[[str], Path]) -> None:
    """A cache of slices would look small and hold everything."""
    model = load_model(converted("float32"), dtype=None, device="cpu")
    with torch.no_grad():
        cache = model(torch.arange(64)[None], use_cache=True).past_key_values
    whole = held_bytes(cache)
    for layer in cache.layers:
        layer.keys = layer.keys[..., :1]
    assert held_bytes(cache) == whole


def test_bytes_that_are_not_per_token_are_noticed(converted: Callable[[str], Path]) -> None:
    """A constant share in the cache would make the number per token a lie."""
    model = load_model(converted("float32"), dtype=None, device="cpu")

    def leave_something(module: Any, inputs: Any, output: Any) -> None:
        output.past_key_values.layers[0].extra = torch.zeros(1)

    model.register_forward_hook(leave_something)
    with pytest.raises(VerificationError, match="not a whole number"):
        measure_kv_bytes(model)
