# SPDX-License-Identifier: Apache-2.0
"""A layer that norms every head's query and key is converted behind the norms, by the same mathematics."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from core.convert import AttentionWeights, convert_layer
from core.export.layout import latent_shape, latent_shapes
from core.facts import ModelFacts
from core.modeling import LatentAttention
from core.planning import LayerPlan, make_plan
from core.presets import PRESETS
from core.qk_norm import picked, queries_apart
from core.spec import JobSpec, Recipe
from tests.core.random_layer import Shape, attend, statistics_of

# 24 values are made of 20 inputs, so moments are singular and their roots keep half the digits of float64
ROUNDING = 1e-7
WIDTH = 20
PRESET_NAMES = ("mha2mla", "quality", "fast")


class Normed:
    """A random layer with norms over u = [normed queries; normed keys; values], and tokens of it."""

    def __init__(self, tokens: int = 300) -> None:
        self.shape = Shape(has_bias=True)
        self.queries = self.shape.heads * self.shape.head_dim
        self.keys = self.shape.kv_heads * self.shape.head_dim
        torch.manual_seed(0)
        self.old = nn.ModuleDict(
            {
                "q_proj": nn.Linear(WIDTH, self.queries),
                "k_proj": nn.Linear(WIDTH, self.keys),
                "v_proj": nn.Linear(WIDTH, self.keys),
                "q_norm": nn.RMSNorm(self.shape.head_dim),
                "k_norm": nn.RMSNorm(self.shape.head_dim),
                "o_proj": nn.Linear(self.queries, WIDTH),
            }
        ).double()
        for norm in (self.old["q_norm"], self.old["k_norm"]):
            norm.weight.data.normal_(1, 0.5)
        self.old.requires_grad_(False)
        self.x = torch.randn(tokens, WIDTH, dtype=torch.float64) + 0.5
        self.u = self.inputs(self.x)
        front = {key: value for key, value in self.old.state_dict().items() if not key.startswith("o_")}
        self.weights = AttentionWeights(
            *picked(self.queries, self.keys, self.u),
            o=self.old["o_proj"].weight,
            o_bias=self.old["o_proj"].bias,
            front=front,
        )
        wide = replace(self.shape, width=self.u.shape[1])
        self.statistics = statistics_of(self.weights, self.u, wide, torch.Generator().manual_seed(1))
        self.inv_freq = 100.0 ** -(torch.arange(0, self.shape.head_dim, 2) / self.shape.head_dim)

    def inputs(self, x: Tensor) -> Tensor:
        """u of x (T, d)."""
        query, key, value = (self.old[name](x) for name in ("q_proj", "k_proj", "v_proj"))
        heads = [
            self.old[name](part.unflatten(-1, (-1, self.shape.head_dim))).flatten(-2)
            for name, part in (("q_norm", query), ("k_norm", key))
        ]
        return torch.cat([*heads, value], dim=-1)

    @property
    def facts(self) -> ModelFacts:
        return replace(self.shape, width=WIDTH).facts.model_copy(update={"has_qk_norm": True})

    def plan(self, recipe: Recipe, keep: float) -> LayerPlan:
        made = make_plan(JobSpec(recipe=recipe, keep=keep), self.facts)
        made.raise_if_blocked()
        return made.layers[0]

    def module(self, plan: LayerPlan, tensors: dict[str, Tensor]) -> LatentAttention:
        """The model's own attention with these tensors, every one of them as planned."""
        assert {name: tuple(one.shape) for name, one in tensors.items()} == latent_shapes(self.facts, plan)
        shape = self.shape
        norms = nn.RMSNorm(shape.head_dim), nn.RMSNorm(shape.head_dim)
        module = LatentAttention(
            latent_shape(self.facts, plan),
            hidden_size=WIDTH,
            heads=shape.heads,
            kv_heads=shape.kv_heads,
            scaling=shape.head_dim**-0.5,
            dropout=0.0,
            layer_idx=0,
            norms=norms,
        ).double()
        module.load_state_dict(tensors)
        return module

    def difference(self, module: LatentAttention) -> float:
        """Largest difference of the outputs on 40 tokens, of the largest."""
        wanted = attend(self.weights, self.u[:40], self.inv_freq, self.shape)
        with torch.no_grad():
            found, _ = module(self.x[None, :40], torch.arange(40)[None])
        return float((found[0] - wanted).abs().max() / wanted.abs().max())


@pytest.fixture(scope="module")
def normed() -> Normed:
    return Normed()


@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_full_rank_is_the_original_layer(normed: Normed, preset: str) -> None:
    """Also the latent has more numbers than the layer's input: 48 of keys and values beside 20."""
    recipe = PRESETS[preset].recipe
    plan = normed.plan(recipe, 1.0)
    layer = convert_layer(normed.weights, normed.statistics, normed.inv_freq, plan, recipe)
    assert plan.cached_numbers == 2 * normed.keys
    assert normed.difference(normed.module(plan, layer.tensors)) < ROUNDING


@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_moments_of_few_tokens_do_not_let_the_latent_read_queries(preset: str) -> None:
    """40 tokens span 40 of 96 dims of u, where queries and keys are one: with a plain pseudo-inverse the
    latent would take what it needs of keys from both. On those tokens full rank is exact all the same."""
    few = Normed(tokens=40)
    recipe = PRESETS[preset].recipe
    plan = few.plan(recipe, 1.0)
    layer = convert_layer(few.weights, few.statistics, few.inv_freq, plan, recipe, shrinkage=0.0)
    assert few.difference(few.module(plan, layer.tensors)) < ROUNDING


@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_a_smaller_cache_costs_something_but_not_everything(normed: Normed, preset: str) -> None:
    recipe = PRESETS[preset].recipe
    errors = []
    for keep in (0.9, 0.5, 0.25):
        plan = normed.plan(recipe, keep)
        layer = convert_layer(normed.weights, normed.statistics, normed.inv_freq, plan, recipe)
        errors.append(normed.difference(normed.module(plan, layer.tensors)))
    assert 1e-6 < errors[0] < errors[2] < 1.5


def test_moments_with_queries_apart_keep_what_is_read_of_them(normed: Normed) -> None:
    """The blocks of the queries and of [keys; values] stay, what is between them goes."""
    apart = queries_apart(normed.statistics, normed.queries)
    n = normed.queries
    for name in ("input_covariance", "fisher_input"):
        whole, parted = getattr(normed.statistics, name), getattr(apart, name)
        assert parted[..., :n, :n].equal(whole[..., :n, :n])
        assert parted[..., n:, n:].equal(whole[..., n:, n:])
        assert not parted[..., :n, n:].any()
        assert not parted[..., n:, :n].any()
        assert whole[..., :n, n:].abs().max() > 0.01
    for name in ("input_mean", "fisher_mean"):
        whole, parted = getattr(normed.statistics, name), getattr(apart, name)
        assert parted[..., n:].equal(whole[..., n:])
        assert not parted[..., :n].any()
