# SPDX-License-Identifier: Apache-2.0
"""Every choice of every stage, one changed at a time: the model runs and caches what was planned."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from core.arch.llama import LLAMA
from core.calibrate.layer_statistics import LayerStatistics, load_statistics
from core.calibrate.steps import Sample, calibrate
from core.convert import AttentionWeights, convert_layer
from core.evaluate.kv_memory import formula_kv_bytes, measure_kv_bytes
from core.export.folder import mla_config
from core.export.layout import latent_shapes
from core.facts import ModelFacts, read_facts
from core.layer_weights import attention_weights
from core.modeling import MLAForCausalLM
from core.planning import Plan, make_plan
from core.presets import PRESETS
from core.recipe import OF_WEIGHTS
from core.spec import GRADED, JobSpec, Recipe
from core.stages import STAGES
from core.weights.skeleton import Skeleton
from core.weights.tensors import TensorSource

LAYERS = 2
KEEP = 0.4
# these have no part in converting the attention of one layer; those of the weights are tested with a budget
# of them, in tests/engine/test_weight_budget.py
NO_PART = ("allocate", *OF_WEIGHTS)


def variants() -> Iterator[tuple[str, str, Any]]:
    """(preset, field, value)."""
    for preset in ("fast", "quality", "mha2mla"):
        for stage, known in STAGES.items():
            if stage not in NO_PART:
                yield from ((preset, stage, choice) for choice in known.ready)
        yield from ((preset, "mean_bias", value) for value in (False, True))
        yield from ((preset, "key_weight", value) for value in (0.25, 4.0))
        yield from ((preset, "freqfold", value) for value in (GRADED, 1, 3))


def recipe_of(preset: str, field: str, value: Any) -> Recipe:
    """The preset with one thing changed, and what has to change along with it."""
    fields = PRESETS[preset].recipe.model_dump() | {field: value}
    rope_fields = ("rope_select", "rope_mix", "rope_derotate", "freqfold")
    if field in rope_fields and value not in ("2-norm", "none", "identity", 1):
        fields["layout"] = "latent+rope"
    if field == "freqfold" and value != 1 and fields["rope_mix"] == "none":
        fields["rope_mix"] = "roro"
    if fields["layout"] == "pre-rope":
        fields |= {"rope_select": "2-norm", "rope_mix": "none", "rope_derotate": "identity"}
    if field == "rope_select" and value == "2-norm":
        fields["rope_mix"] = "none"
    if fields["rope_mix"] == "none":
        fields["freqfold"] = 1
    elif fields["rope_select"] == "2-norm":
        fields["rope_select"] = "logit-damage"
    return Recipe(**fields)


VARIANTS = {"-".join(map(str, one)): recipe_of(*one) for one in variants()}


class Tiny:
    """A biased tiny model that was calibrated forwards and backwards."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.folder = folder
        self.facts: ModelFacts = read_facts(str(folder))
        skeleton = Skeleton(folder, LLAMA, torch.device("cpu"))
        windows = torch.randint(2, 256, (4, 40), generator=torch.Generator().manual_seed(0))
        list(calibrate(skeleton, self.facts, LLAMA, Sample(windows, fisher_windows=3, derotation=True), work))
        self.inv_freq = skeleton.inv_freq(0)
        self.statistics: list[LayerStatistics] = [load_statistics(work, index) for index in range(LAYERS)]
        source, cpu = TensorSource(folder), torch.device("cpu")
        self.weights: list[AttentionWeights] = [
            attention_weights(source, LLAMA, self.facts, index, cpu) for index in range(LAYERS)
        ]
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.outside = {name: t for name, t in base.state_dict().items() if "self_attn" not in name}

    def converted(self, recipe: Recipe) -> tuple[Any, Plan]:
        """The converted model, every tensor checked against the shape that was announced."""
        plan = make_plan(JobSpec(model=str(self.folder), recipe=recipe, keep=KEEP), self.facts)
        plan.raise_if_blocked()
        tensors: dict[str, Tensor] = dict(self.outside)
        for weights, statistics, layer in zip(self.weights, self.statistics, plan.layers, strict=True):
            latent = convert_layer(weights, statistics, self.inv_freq, layer, recipe, 1e-6)
            assert {name: tuple(t.shape) for name, t in latent.tensors.items()} == latent_shapes(
                self.facts, layer
            )
            assert 0 <= latent.key_error < 1
            assert 0 <= latent.value_error < 1
            prefix = f"model.layers.{layer.index}.self_attn."
            tensors |= {prefix + name: tensor for name, tensor in latent.tensors.items()}
        model = MLAForCausalLM(mla_config(self.facts, plan)).float().eval()
        model.load_state_dict(tensors)
        return model, plan


@pytest.fixture(scope="module")
def tiny(tiny_llama: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    folder = tiny_llama(num_hidden_layers=LAYERS, attention_bias=True)
    return Tiny(folder, tmp_path_factory.mktemp("statistics"))


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_every_choice_converts_a_model_that_runs(name: str, tiny: Tiny) -> None:
    model, plan = tiny.converted(VARIANTS[name])
    tokens = torch.arange(2, 50)[None]
    logits = model(tokens).logits
    assert logits.isfinite().all()
    # one token after the other out of the cache, absorbed or rebuilt: float32 rounding of logits of size 10
    start = model(tokens[:, :40], use_cache=True)
    step = model(tokens[:, 40:41], past_key_values=start.past_key_values).logits[:, -1]
    assert (step - logits[:, 40]).abs().max() < 1e-3
    assert (
        formula_kv_bytes(model.config, torch.float32)
        == measure_kv_bytes(model)
        == plan.kv_bytes_per_token_after
    )
    budget = KEEP * tiny.facts.kv_numbers_per_layer
    assert all(budget - 1 <= layer.cached_numbers <= budget for layer in plan.layers)


def test_the_matrix_holds_every_choice() -> None:
    """A choice that `recipe_of` changes back would not be tested."""
    for stage, known in STAGES.items():
        if stage not in NO_PART:
            used = {getattr(recipe, stage) for recipe in VARIANTS.values()}
            assert used == set(known.ready), stage
    for preset, field, value in variants():
        assert getattr(recipe_of(preset, field, value), field) == value, (preset, field, value)


@torch.no_grad()
def test_choices_make_a_difference(tiny: Tiny) -> None:
    """A choice that is silently ignored would give the preset's own logits."""
    tokens = torch.arange(2, 50)[None]
    for preset in ("fast", "mha2mla"):
        plain = tiny.converted(PRESETS[preset].recipe)[0](tokens).logits
        for field in (
            "rope_select",
            "rope_mix",
            "rope_derotate",
            "factor_input",
            "factor_output",
            "key_weight",
            "mean_bias",
        ):
            numbers = {"key_weight": (1.0, 8.0), "mean_bias": (False, True)}
            ready = STAGES[field].ready if field in STAGES else numbers[field]
            own = getattr(PRESETS[preset].recipe, field)
            other = next(one for one in reversed(list(ready)) if one != own)
            changed = tiny.converted(recipe_of(preset, field, other))[0](tokens).logits
            assert (changed - plain).abs().max() > 1e-3, (preset, field, other)
