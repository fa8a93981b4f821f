# SPDX-License-Identifier: Apache-2.0
"""A trial says of a conversion what measuring the converted model says."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from core.arch import find_architecture
from core.calibrate.layer_statistics import LayerStatistics
from core.convert import AttentionWeights, convert_layer
from core.evaluate import load_model
from core.export.folder import mla_config
from core.facts import read_facts
from core.layer_weights import attention_weights
from core.planning import Plan, make_plan
from core.presets import spec_from_preset
from core.settings import Settings
from core.spec import JobSpec
from core.trial import Trial
from core.weights.skeleton import Skeleton
from core.weights.tensors import TensorSource


def parts(model: Path, spec: JobSpec, home: Path) -> tuple[Plan, Skeleton, Callable[[int], AttentionWeights]]:
    facts = read_facts(str(model), settings=Settings(data_dir=home))
    family = find_architecture(facts.model_type)
    assert family is not None
    source, cpu = TensorSource(model), torch.device("cpu")
    skeleton = Skeleton(model, family, cpu)
    return (
        make_plan(spec, facts),
        skeleton,
        lambda index: attention_weights(source, family, facts, index, cpu),
    )


def divergence(model: Path, spec: JobSpec, home: Path, windows: torch.Tensor) -> float:
    """KL by a trial of one weights-only recipe, which needs no statistics but their shapes."""
    plan, skeleton, weights = parts(model, spec, home)
    facts = read_facts(str(model), settings=Settings(data_dir=home))
    family = find_architecture(facts.model_type)
    assert family is not None
    trial = Trial(skeleton, family, {"it": mla_config(facts, plan)}, windows)
    width = facts.hidden_size
    nothing = LayerStatistics(
        contribution=torch.ones(facts.kv_heads, facts.head_dim // 2),
        input_covariance=torch.eye(width, dtype=torch.float64),
        input_mean=torch.zeros(width, dtype=torch.float64),
        input_l1=torch.ones(width, dtype=torch.float64),
        attention_mass=torch.ones(facts.heads, 1, dtype=torch.float64),
        tokens=1,
    )
    for layer in plan.layers:
        latent = convert_layer(
            weights(layer.index), nothing, skeleton.inv_freq(layer.index), layer, spec.recipe
        )
        trial.advance(layer.index, {"it": latent})
    return trial.divergences()["it"]


def test_a_conversion_that_loses_nothing_has_no_divergence(tiny_checkpoint: Path, tmp_path: Path) -> None:
    spec = spec_from_preset("mha2mla", model=str(tiny_checkpoint), keep=1.0)
    windows = torch.arange(64).view(2, 32)
    # float32 logits of a vocabulary of some hundred words
    assert abs(divergence(tiny_checkpoint, spec, tmp_path, windows)) < 1e-5


def test_a_trial_measures_what_the_exported_model_shows(
    tiny_checkpoint: Path,
    tmp_path: Path,
    tiny_spec: Callable[..., JobSpec],
    convert_to: Callable[..., tuple],
) -> None:
    recipe = {"rope_select": "high"}
    spec = tiny_spec(tiny_checkpoint, keep=0.4, recipe=recipe)
    windows = torch.arange(96).view(3, 32)
    tried = divergence(tiny_checkpoint, spec, tmp_path, windows)
    folder, _ = convert_to(spec)
    base = AutoModelForCausalLM.from_pretrained(tiny_checkpoint)
    converted = load_model(folder, dtype=None, device="cpu")
    with torch.no_grad():
        expected = base(windows).logits.double().log_softmax(dim=-1)
        found = converted(windows).logits.double().log_softmax(dim=-1)
    measured = float((expected.exp() * (expected - found)).sum(dim=-1).mean())
    assert measured > 1e-4, "the budget was meant to cost something"
    # the trial runs in float32, the weights were stored in float32
    assert tried == pytest.approx(measured, rel=1e-3)
