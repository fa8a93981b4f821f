# SPDX-License-Identifier: Apache-2.0
"""A conversion has exactly the ranks and rotary pairs it was given; bad ones never start."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import PlanError
from core.spec import JobSpec

Make = Callable[..., JobSpec]

# the tiny model: 4 layers, 2 KV heads of 16 dims (8 pairs)
BY_HEAD = [[[0, 7], [2, 3]], [[1], [5]], [[], []], [[0, 1, 2], [5, 6, 7]]]
SHARED = [[[0, 7], [2]], [[1], []], [[3], [3]], [[0, 1, 2], [5, 6, 7]]]


def layer_rows(result: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((result / "conversion.json").read_text())["layers"]
    return found


def test_given_ranks_and_pairs_are_converted_and_nothing_is_chosen(
    tiny_spec: Make, tiny_checkpoint: Path, convert_to: Callable[..., Any]
) -> None:
    """The recipe would ask held-back text for an allocation and its rule for pairs; both are said already."""
    ranks = [20, 9, 33, 14]
    result, sink = convert_to(tiny_spec(tiny_checkpoint, preset="fast", layer_ranks=ranks, rope_pairs=SHARED))
    rows = layer_rows(result)
    assert [row["kv_lora_rank"] for row in rows] == ranks
    assert [row["kept"] for row in rows] == SHARED
    # 4 bytes of float32, in a real cache; two dims for each shared pair
    dims = [2 * sum(map(len, layer)) for layer in SHARED]
    assert sink.metrics["kv_bytes_per_token_measured"] == 4 * (sum(ranks) + sum(dims))
    assert "kl_held_back" not in sink.metrics


def test_pairs_of_each_head_are_exactly_those_that_rotate(
    tiny_spec: Make, tiny_checkpoint: Path, convert_to: Callable[..., Any]
) -> None:
    """keep 0.5 of 64 numbers is 32 in every layer, rotary keys and latent together."""
    result, sink = convert_to(tiny_spec(tiny_checkpoint, keep=0.5, rope_pairs=BY_HEAD))
    assert [row["kept"] for row in layer_rows(result)] == BY_HEAD
    assert sink.metrics["kv_bytes_per_token_measured"] == 4 * 4 * 32
    assert sink.metrics["logits_difference"] < 1e-4


def test_an_allocation_spreads_ranks_beside_given_pairs(
    tiny_spec: Make, tiny_checkpoint: Path, convert_to: Callable[..., Any]
) -> None:
    """Pairs stay as given in every candidate, and the budget stays the whole one."""
    result, sink = convert_to(tiny_spec(tiny_checkpoint, preset="fast", keep=0.5, rope_pairs=SHARED))
    rows = layer_rows(result)
    assert [row["kept"] for row in rows] == SHARED
    assert sum(row["cached_numbers"] for row in rows) == 4 * 32
    assert sink.metrics["kl_held_back"] >= 0


def test_bad_ranks_are_refused_before_anything_is_written(
    tiny_spec: Make, tiny_checkpoint: Path, convert_to: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(PlanError, match="layer 2: rank 999"):
        convert_to(tiny_spec(tiny_checkpoint, preset="quality", layer_ranks=[9, 9, 999, 9]))
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()
