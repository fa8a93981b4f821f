# SPDX-License-Identifier: Apache-2.0
"""Whole conversions with our own presets and transmla: exactness, cache, seeds, resuming."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from folder_digest import digest
from transformers import AutoModelForCausalLM

from core.errors import Cancelled
from core.evaluate import load_model
from core.presets import PRESETS
from core.spec import JobSpec
from core.stages import STAGES

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


class CancelAfter:
    """Raises at the n-th check."""

    def __init__(self, checks: int) -> None:
        self.left = checks

    def check(self) -> None:
        self.left -= 1
        if self.left <= 0:
            raise Cancelled


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


@pytest.mark.parametrize(
    ("preset", "allocate"),
    [
        ("transmla", "uniform"),
        *(("fast", one) for one in STAGES["allocate"].ready),
        ("quality", "loss-aware"),
    ],
)
def test_the_cache_is_the_one_that_was_asked_for(
    preset: str,
    allocate: str,
    base: Path,
    small_spec: Callable[..., JobSpec],
    convert_to: Callable[..., Any],
) -> None:
    """However the numbers are spread over layers, all of them together are at most keep, and nearly that."""
    _, sink = convert_to(small_spec(base, preset, keep=0.4, recipe={"allocate": allocate}))
    allowed = 0.4 * LAYERS * NUMBERS * 4
    measured = sink.metrics["kv_bytes_per_token_measured"]
    assert allowed - LAYERS * 4 <= measured <= allowed
    assert sink.metrics["kv_bytes_per_token_formula"] == measured
    assert sink.metrics["logits_difference"] < 1e-4


def test_a_seed_gives_its_bytes(
    base: Path, small_spec: Callable[..., JobSpec], convert_to: Callable[..., Any]
) -> None:
    """Labels of the backward pass are drawn: the same ones for the same seed, others for another."""

    def run(name: str, seed: int) -> dict[str, str]:
        result, _ = convert_to(small_spec(base, "fast", calibration={"seed": seed}), name)
        return digest(result)

    first, again, other = run("first", 0), run("again", 0), run("other", 1)
    assert first == again
    assert first["model.safetensors"] != other["model.safetensors"]


def test_stopping_a_backward_pass_anywhere_changes_no_byte(
    base: Path, small_spec: Callable[..., JobSpec], convert_to: Callable[..., Any]
) -> None:
    """Forward, backward, allocation, conversion: stopped at each step in turn, until it is through."""
    spec = small_spec(base, "fast")
    undisturbed, _ = convert_to(spec, "undisturbed")
    stops = 0
    while True:
        try:
            result, _ = convert_to(spec, "stopped", CancelAfter(stops + 1))
            break
        except Cancelled:
            stops += 1
    assert stops >= 4 * LAYERS + 1
    assert digest(result) == digest(undisturbed)
