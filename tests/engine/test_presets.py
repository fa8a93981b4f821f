# SPDX-License-Identifier: Apache-2.0
"""Whole conversions with our own presets and transmla: exactness, cache, seeds, resuming."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cancelling import CancelAfter
from folder_digest import digest
from transformers import AutoModelForCausalLM

from core.errors import Cancelled
from core.evaluate import load_model
from core.presets import PRESETS
from core.spec import JobSpec

LAYERS, NUMBERS = 2, 64
# rope that scales its frequencies and its cosines, biases everywhere: what a conversion may get wrong
HARD = {
    "num_hidden_layers": LAYERS,
    "attention_bias": True,
    "rope_parameters": {
        "rope_type": "yarn",
        "rope_theta": 10_000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 64,
    },
}


@pytest.fixture(scope="module")
def base(tiny_llama: Callable[..., Path]) -> Path:
    return tiny_llama(**HARD)


@pytest.fixture
def small_spec(tiny_spec: Callable[..., JobSpec], sample_text: Path) -> Callable[..., JobSpec]:
    """tiny_spec with few tokens, half of them for the backward pass."""

    def make(model: Path, preset: str, **fields: Any) -> JobSpec:
        calibration = {"text": str(sample_text), "tokens": 256, "context": 64, "fisher_tokens": 128}
        calibration |= fields.pop("calibration", {})
        recipe = PRESETS[preset].recipe.model_dump() | fields.pop("recipe", {})
        return tiny_spec(model, preset=preset, recipe=recipe, calibration=calibration, **fields)

    return make


@pytest.mark.parametrize("preset", ["quality", "fast"])
def test_keeping_everything_gives_the_original_logits(
    preset: str, base: Path, small_spec: Callable[..., JobSpec], convert_to: Callable[..., Any]
) -> None:
    """Only float32 rounding of the factors may show, logits are of size 10."""
    result, sink = convert_to(small_spec(base, preset, keep=1.0))
    tokens = torch.randint(0, 256, (2, 100), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)(tokens).logits
        found = load_model(result, dtype=torch.float32, device="cpu")(tokens).logits
    assert wanted.abs().max() > 1
    assert (wanted - found).abs().max() < 1e-3
    assert sink.metrics["kv_bytes_per_token_measured"] == LAYERS * NUMBERS * 4


def test_transmla_caches_what_was_asked_for(
    base: Path, small_spec: Callable[..., JobSpec], convert_to: Callable[..., Any]
) -> None:
    """25 of 64 numbers per layer; the same of our presets, whose layers differ, is in test_allocation.py."""
    _, sink = convert_to(small_spec(base, "transmla", keep=0.4))
    assert sink.metrics["kv_bytes_per_token_measured"] == LAYERS * 25 * 4
    assert sink.metrics["kv_bytes_per_token_formula"] == LAYERS * 25 * 4
    assert sink.metrics["logits_difference"] < 1e-4


def test_a_seed_gives_its_bytes_wherever_a_run_is_stopped(
    base: Path, small_spec: Callable[..., JobSpec], convert_to: Callable[..., Any], tmp_path: Path
) -> None:
    """Forward, backward, allocation, conversion: stopped at each step in turn, until all is converted.

    What comes behind is the same for all recipes and has a test of its own (test_resume.py). Another seed
    draws other labels for the backward pass.
    """
    spec = small_spec(base, "fast")
    undisturbed, _ = convert_to(spec, "undisturbed")
    stops = 0
    while not (tmp_path / "stopped.partial" / "probe" / "expected.safetensors").exists():
        stops += 1
        with pytest.raises(Cancelled):
            convert_to(spec, "stopped", CancelAfter(stops))
    result, _ = convert_to(spec, "stopped")
    assert stops >= 4 * LAYERS + 1
    assert digest(result) == digest(undisturbed)
    other, _ = convert_to(small_spec(base, "fast", calibration={"seed": 1}), "other")
    assert digest(other)["model.safetensors"] != digest(undisturbed)["model.safetensors"]
