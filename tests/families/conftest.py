# SPDX-License-Identifier: Apache-2.0
"""Every family calibrated once, and converted layer by layer in this process."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from core.arch import Architecture, find_architecture
from core.calibrate.layer_statistics import LayerStatistics, load_statistics
from core.calibrate.steps import Sample, calibrate
from core.convert import AttentionWeights, LatentLayer, convert_layer
from core.export.folder import mla_config
from core.export.layout import latent_shapes
from core.facts import ModelFacts, read_facts
from core.layer_weights import attention_weights
from core.modeling import MLAForCausalLM
from core.planning import Plan, make_plan
from core.spec import JobSpec, Recipe
from core.weights.skeleton import Skeleton
from core.weights.tensors import TensorSource
from tests.families.tiny import CONFIGS, make_family

CONTEXT = 48


@dataclass
class Tiny:
    """A tiny model of one family, calibrated forwards and backwards on random tokens."""

    folder: Path
    work: Path

    @cached_property
    def facts(self) -> ModelFacts:
        return read_facts(str(self.folder))

    @cached_property
    def family(self) -> Architecture:
        found = find_architecture(self.facts.model_type)
        assert found is not None
        return found

    @cached_property
    def skeleton(self) -> Skeleton:
        return Skeleton(self.folder, self.family, torch.device("cpu"))

    @cached_property
    def original(self) -> Any:
        return AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()

    @cached_property
    def sample(self) -> Sample:
        # every token occurs, so that no direction of the inputs is unknown
        windows = torch.randperm(258 * 4, generator=torch.Generator().manual_seed(0)) % 258
        return Sample(windows[: 21 * CONTEXT].view(-1, CONTEXT), fisher_windows=8, derotation=True)

    @cached_property
    def statistics(self) -> list[LayerStatistics]:
        list(calibrate(self.skeleton, self.facts, self.family, self.sample, self.work))
        return [load_statistics(self.work, index) for index in range(self.facts.layers)]

    @cached_property
    def weights(self) -> list[AttentionWeights]:
        source, cpu = TensorSource(self.folder, self.family), torch.device("cpu")
        return [
            attention_weights(source, self.family, self.facts, index, cpu)
            for index in range(self.facts.layers)
        ]

    def plan(self, recipe: Recipe, keep: float) -> Plan:
        """Raises PlanError when it is blocked."""
        asked: dict[str, Any] = {"calibration": {"context": CONTEXT}, "evaluation": None}
        spec = JobSpec(model=str(self.folder), recipe=recipe, keep=keep, **asked)
        plan = make_plan(spec, self.facts)
        plan.raise_if_blocked()
        return plan

    def layers(self, recipe: Recipe, plan: Plan) -> list[LatentLayer]:
        """Every layer converted; tensors have the shapes that were announced."""
        found = []
        for weights, statistics, layer in zip(self.weights, self.statistics, plan.layers, strict=True):
            latent = convert_layer(weights, statistics, self.skeleton.inv_freq(layer.index), layer, recipe)
            shapes = {name: tuple(tensor.shape) for name, tensor in latent.tensors.items()}
            assert shapes == latent_shapes(self.facts, layer)
            found.append(latent)
        return found

    def converted(self, recipe: Recipe, keep: float) -> tuple[Any, Plan]:
        """The converted model in float32."""
        plan = self.plan(recipe, keep)
        attention = [self.family.attention.format(i=layer.index) + "." for layer in plan.layers]
        tensors: dict[str, Tensor] = {
            name: tensor
            for name, tensor in self.original.state_dict().items()
            if not name.startswith(tuple(attention))
        }
        for prefix, latent in zip(attention, self.layers(recipe, plan), strict=True):
            tensors |= {prefix + name: tensor for name, tensor in latent.tensors.items()}
        model = MLAForCausalLM(mla_config(self.facts, plan)).float().eval()
        model.load_state_dict(tensors)
        return model, plan


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tiny]:
    """Every family by name; what a test does not look at is not computed."""
    return {
        name: Tiny(
            make_family(name, tmp_path_factory.mktemp("family")), tmp_path_factory.mktemp("statistics")
        )
        for name in CONFIGS
    }


@pytest.fixture(params=CONFIGS)
def tiny(request: pytest.FixtureRequest, families: dict[str, Tiny]) -> Tiny:
    """One family after the other."""
    return families[request.param]


@pytest.fixture(autouse=True)
def _inference() -> Any:
    with torch.no_grad():
        yield
