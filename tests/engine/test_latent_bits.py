# SPDX-License-Identifier: Apache-2.0
"""Conversions whose cache holds integers: bytes, record, card, and what a measurement goes through."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import SpecError
from core.evaluate import load_model
from core.evaluate.predictor import WholeModel
from core.facts import read_facts
from core.planning import make_plan
from core.spec import Evaluation, JobSpec, parse_spec

RECIPES: dict[str, dict[str, Any]] = {
    "quality": {"preset": "quality"},
    "fast": {"preset": "fast"},
    "split, rotary keys of every head": {"preset": "mha2mla", "recipe": {"factor_form": "split"}},
}


@pytest.mark.parametrize("name", RECIPES)
def test_bytes_are_planned_measured_and_recorded(
    tiny_checkpoint: Path, tiny_spec: Callable[..., JobSpec], convert_to: Callable[..., Any], name: str
) -> None:
    fields = RECIPES[name]
    recipe = fields.get("recipe", {}) | {"latent_bits": 4}
    result, sink = convert_to(tiny_spec(tiny_checkpoint, keep=0.5, **(fields | {"recipe": recipe})))
    metrics = {event.name: event.value for event in sink.of("metric")}
    assert metrics["kv_bytes_per_token_measured"] == metrics["kv_bytes_per_token_formula"]
    # 4 layers of 32 of 64 numbers in float32; 4 bits of them, bytes for rotary keys and two sizes at most
    assert metrics["kv_bytes_per_token_measured"] <= 4 * (32 + 2)
    record = json.loads((result / "conversion.json").read_text())
    assert record["kv_bytes_per_token"]["after"] == metrics["kv_bytes_per_token_measured"]
    assert "holds 4 bits a number" in (result / "README.md").read_text()


def test_the_basis_loses_nothing_and_measuring_reads_the_cache(
    tiny_checkpoint: Path,
    tiny_spec: Callable[..., JobSpec],
    convert_to: Callable[..., Any],
    sample_text: Path,
) -> None:
    """Prefill is what 16 bits give; the measured loss is not."""
    evaluation = Evaluation(text=str(sample_text), context=192, windows=2)
    kl, logits = {}, {}
    for bits in (16, 2):
        spec = tiny_spec(
            tiny_checkpoint, preset="quality", keep=1.0, recipe={"latent_bits": bits}, evaluation=evaluation
        )
        result, sink = convert_to(spec, name=f"bits{bits}")
        kl[bits] = {event.name: event.value for event in sink.of("metric")}["kl_to_base"]
        model = load_model(result, dtype=None, device="cpu")
        with torch.no_grad():
            logits[bits] = model(torch.arange(180)[None]).logits
    # keep 1 is exact to float32 rounding, whatever the basis
    torch.testing.assert_close(logits[2], logits[16], rtol=0, atol=1e-3)
    assert abs(kl[16]) < 1e-5 < kl[2]


def test_a_whole_window_at_once_would_measure_nothing(
    tiny_checkpoint: Path, tiny_spec: Callable[..., JobSpec], convert_to: Callable[..., Any]
) -> None:
    """Up to the exact tokens the cache is no other than without bits; beyond them it is."""
    result, _ = convert_to(tiny_spec(tiny_checkpoint, keep=0.5, recipe={"latent_bits": 2}))
    model = load_model(result, dtype=None, device="cpu")
    window = torch.arange(160)
    with torch.no_grad():
        at_once = model.get_decoder()(window[None], use_cache=False).last_hidden_state[0]
    measured = WholeModel(model).hidden(window)
    torch.testing.assert_close(measured[:64], at_once[:64], rtol=0, atol=1e-5)
    assert float((measured[64:] - at_once[64:]).abs().max()) > 1e-3


def test_few_bits_take_bytes_and_no_numbers(tiny_checkpoint: Path) -> None:
    """The budget counts numbers, so that bits come on top: the widths stay, the bytes shrink."""
    facts = read_facts(str(tiny_checkpoint))
    plans = {
        bits: make_plan(parse_spec({"keep": 0.5, "recipe": {"latent_bits": bits}}), facts)
        for bits in (16, 8, 4, 2)
    }
    widths = {tuple(layer.widths for layer in plan.layers) for plan in plans.values()}
    assert len(widths) == 1
    sizes = [plan.kv_bytes_per_token_after for plan in plans.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert plans[4].keep == plans[4].kv_bytes_per_token_after / facts.kv_bytes_per_token


def test_a_latent_that_is_part_of_the_inputs_cannot_be_mixed() -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec({"weights_keep": 0.8, "recipe": {"latent_bits": "4"}})
    assert caught.value.field == "recipe.latent_bits"
    assert "junction to right" in caught.value.hint
    assert parse_spec({"weights_keep": 0.8, "recipe": {"latent_bits": 4, "junction": "right"}})
