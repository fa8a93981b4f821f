# SPDX-License-Identifier: Apache-2.0
"""A budget of weights beside that of the cache: kept, exact where nothing is cut, stored as planned."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cancelling import CancelAfter
from folder_digest import digest
from transformers import AutoModelForCausalLM

from core.calibrate.tokens import calibration_windows
from core.decode_cost import decode_flops
from core.errors import Cancelled
from core.evaluate import load_model
from core.facts import read_facts
from core.planning import make_plan
from core.spec import JobSpec
from core.weights.index import read_index

TOKENS = torch.arange(40)[None] % 200
_FLOATS = ("float32", "bfloat16")


def linear_numbers(folder: Path) -> int:
    """Numbers of all factors and whole matrices of decoder layers in a checkpoint, biases and norms aside."""
    infos = read_index(folder).values()
    return sum(
        info.numbers for info in infos if ".layers." in info.name and _is_of_a_matrix(info.name, info.dtype)
    )


def _is_of_a_matrix(name: str, dtype: str) -> bool:
    is_number = dtype in (*_FLOATS, "I8")
    return is_number and name.endswith(("weight", "values")) and "norm" not in name


@pytest.mark.parametrize(("preset", "weights_keep"), [("quality", 0.9), ("fast", 0.6), ("mha2mla", 0.6)])
def test_the_file_holds_no_more_than_the_budget_and_as_much_as_the_plan_says(
    preset: str,
    weights_keep: float,
    tiny_spec: Callable[..., JobSpec],
    tiny_checkpoint: Path,
    convert_to: Callable[..., Any],
) -> None:
    spec = tiny_spec(tiny_checkpoint, preset=preset, keep=0.5, weights_keep=weights_keep)
    folder, sink = convert_to(spec)
    before, after = linear_numbers(tiny_checkpoint), linear_numbers(folder)
    assert after <= weights_keep * before
    # a whole rank of every one of 5 linear layers in 4 layers is what rounding down can leave
    assert after > weights_keep * before - 4 * 5 * (64 + 128)
    assert sink.metrics["linear_parameters_before"] == before
    assert sink.metrics["linear_parameters_after"] == after
    facts, context = read_facts(spec.model), spec.calibration.context
    flops = [int(sink.metrics[f"decode_flops_{one}"]) for one in ("before", "after", "context")]
    assert flops[0] == decode_flops(facts, make_plan(spec, facts), context)[0]
    assert flops[2] == context
    row = f"| FLOPs of a token with {context:,} cached ones, calculated | {flops[0]:,} | {flops[1]:,} |"
    assert row in (folder / "README.md").read_text(encoding="utf-8")
    assert sink.metrics["kv_bytes_per_token_measured"] == sink.metrics["kv_bytes_per_token_formula"]
    steps = [event for event in sink.of("progress") if event.stage == "calibrating"]
    assert [event.done for event in steps] == list(range(1, steps[-1].total + 1))


def test_keeping_all_weights_and_all_of_the_cache_is_the_original(
    tiny_spec: Callable[..., JobSpec], tiny_checkpoint: Path, convert_to: Callable[..., Any]
) -> None:
    folder, _ = convert_to(tiny_spec(tiny_checkpoint, preset="quality", keep=1.0, weights_keep=1.0))
    original = AutoModelForCausalLM.from_pretrained(tiny_checkpoint, dtype=torch.float32).eval()
    converted = load_model(folder, dtype=None, device="cpu")
    with torch.no_grad():
        wanted, found = original(TOKENS).logits, converted(TOKENS).logits
    # float32 sums in another order, through the identity latent's solve
    assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()
    assert linear_numbers(folder) == linear_numbers(tiny_checkpoint)


@pytest.mark.parametrize(
    "recipe",
    [
        {"junction": "left", "linear_form": "local", "factor_form": "split"},
        {"junction": "right", "factor_bits": 8, "mean_bias": False},
        {"junction": "symmetric", "linear_allocate": "uniform", "linear_input": "diag-hessian"},
        {"junction": "block-identity", "factor_bits": 8, "linear_input": "covariance"},
        {"factor_form": "joint-qk-vo", "allocate": "uniform"},
    ],
    ids=str,
)
def test_every_choice_of_the_weights_converts_and_reloads(
    recipe: dict[str, Any],
    tiny_spec: Callable[..., JobSpec],
    tiny_checkpoint: Path,
    convert_to: Callable[..., Any],
) -> None:
    # the engine reloads the folder in a fresh process and compares logits and cache bytes itself
    spec = tiny_spec(tiny_checkpoint, preset="quality", keep=0.5, weights_keep=0.8, recipe=recipe)
    folder, sink = convert_to(spec)
    assert linear_numbers(folder) <= 0.8 * linear_numbers(tiny_checkpoint)
    assert sink.metrics["linear_parameters_after"] == linear_numbers(folder)


def test_stopping_anywhere_changes_no_byte(
    tiny_spec: Callable[..., JobSpec], tiny_checkpoint: Path, convert_to: Callable[..., Any]
) -> None:
    spec = tiny_spec(tiny_checkpoint, preset="quality", keep=0.5, weights_keep=0.8)
    whole, _ = convert_to(spec, "whole")
    # 9 steps of calibration for 4 layers, 8 of the cache's choice, 8 of the weights', then the layers
    for checks in (21, 29):
        name = f"stopped-{checks}"
        with pytest.raises(Cancelled):
            convert_to(spec, name, CancelAfter(checks))
        resumed, _ = convert_to(spec, name)
        assert digest(resumed) == digest(whole)


def attention_error(folder: Path, base: Path, windows: torch.Tensor) -> float:
    """Mean squared error of the first layer's attention, beside the mean square of the original's."""
    outputs: list[torch.Tensor] = []
    models: list[Any] = [
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        load_model(folder, dtype=torch.float32, device="cpu"),
    ]
    for model in models:
        hook = model.model.layers[0].self_attn.register_forward_hook(
            lambda module, inputs, output: outputs.append(output[0])
        )
        with torch.no_grad():
            model(windows)
        hook.remove()
    wanted, found = outputs
    return float((found - wanted).square().mean() / wanted.square().mean())


def test_w_o_makes_up_for_smaller_queries(
    tiny_spec: Callable[..., JobSpec], tiny_checkpoint: Path, convert_to: Callable[..., Any]
) -> None:
    """With all of the cache kept, queries alone spoil what attention hands to W_O."""
    errors = {}
    for refit in (False, True):
        # local: nothing else of the layer is fitted differently
        recipe = {"refit_output": refit, "linear_form": "local", "linear_allocate": "uniform"}
        spec = tiny_spec(tiny_checkpoint, preset="quality", keep=1.0, weights_keep=0.75, recipe=recipe)
        folder, _ = convert_to(spec, f"refit-{refit}")
        asked = spec.calibration
        windows = calibration_windows(
            tiny_checkpoint, asked.text, asked.tokens, asked.context, asked.window_seed
        )
        errors[refit] = attention_error(folder, tiny_checkpoint, windows)
    assert errors[True] < errors[False]
