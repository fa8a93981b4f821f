# SPDX-License-Identifier: Apache-2.0
"""One random attention layer with the statistics of random inputs, and what it computes before and after.

Everything is float64, so that an identity which holds on paper holds to rounding here.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from core.calibrate.gradient_moments import GradientMoments
from core.calibrate.layer_statistics import LayerStatistics
from core.convert import AttentionWeights, convert_layer
from core.export.layout import latent_shape
from core.facts import ModelFacts
from core.modeling import LatentAttention
from core.planning import LayerPlan, make_plan
from core.rope.scores import PairNorms
from core.spec import JobSpec, Recipe

TOKENS = 400


@dataclass(frozen=True)
class Shape:
    """Three KV heads with two query heads each: a mixing of heads is no mere swap of two."""

    heads: int = 6
    kv_heads: int = 3
    head_dim: int = 8
    width: int = 40
    has_bias: bool = False

    @property
    def facts(self) -> ModelFacts:
        """A one-layer model of this shape; only what planning looks at is meaningful."""
        numbers = 2 * self.kv_heads * self.head_dim
        return ModelFacts(
            name="test", kind="folder", folder="", revision=None, model_type="llama", family="Llama",
            layers=1, hidden_size=self.width, heads=self.heads, kv_heads=self.kv_heads,
            head_dim=self.head_dim, rotary_dim=self.head_dim, rope_type="default", rope_theta=1e4,
            max_context=2048, vocab_size=100, dtype="float64", parameters=10**9,
            weight_bytes=2 * 10**9, is_tied=True, has_attention_bias=self.has_bias,
            kv_numbers_per_layer=numbers, kv_bytes_per_token=numbers * 8,
        )  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A layer, the inputs x (TOKENS, d) it was calibrated on, and its rope frequencies."""

    shape: Shape
    weights: AttentionWeights
    statistics: LayerStatistics
    x: Tensor
    inv_freq: Tensor

    def plan(self, recipe: Recipe, **budget: Any) -> LayerPlan:
        """The plan of this layer; raises PlanError when it is blocked."""
        made = make_plan(JobSpec(recipe=recipe, **budget), self.shape.facts)
        made.raise_if_blocked()
        return made.layers[0]

    def converted(self, recipe: Recipe, **budget: Any) -> LatentAttention:
        """The latent attention in float64."""
        plan = self.plan(recipe, **budget)
        layer = convert_layer(self.weights, self.statistics, self.inv_freq, plan, recipe)
        return self.module(plan, layer.tensors)

    def module(self, plan: LayerPlan, tensors: dict[str, Tensor]) -> LatentAttention:
        """The model's own attention with these tensors; every name and shape must be the planned one."""
        shape = self.shape
        module = LatentAttention(
            latent_shape(shape.facts, plan),
            hidden_size=shape.width,
            heads=shape.heads,
            kv_heads=shape.kv_heads,
            scaling=shape.head_dim**-0.5,
            dropout=0.0,
            layer_idx=0,
        ).double()
        module.load_state_dict(tensors)
        return module

    @torch.no_grad()
    def difference(self, module: LatentAttention, tokens: int = 40) -> float:
        """Largest difference of its output from the original's on `tokens` inputs, of the largest output."""
        x = self.x[None, :tokens]
        wanted = attend(self.weights, x[0], self.inv_freq, self.shape)
        found, _ = module(x, torch.arange(tokens)[None])
        return float((found[0] - wanted).abs().max() / wanted.abs().max())


def random_case(seed: int = 0, shape: Shape | None = None, inv_freq: Tensor | None = None) -> Case:
    """Inputs with a mean and a few large directions, as hidden states have them; all else is random."""
    shape = shape or Shape()
    draw = torch.Generator().manual_seed(seed)
    width, head_dim, kv = shape.width, shape.head_dim, shape.kv_heads * shape.head_dim
    queries = shape.heads * head_dim

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=draw, dtype=torch.float64)

    biases = [normal(rows) for rows in (queries, kv, kv, width)] if shape.has_bias else [None] * 4
    weights = AttentionWeights(
        *(normal(rows, width) / width**0.5 for rows in (queries, kv, kv)),
        normal(width, queries) / queries**0.5,
        *biases,
    )
    x = normal(TOKENS, width) * torch.logspace(0.5, -1, width, dtype=torch.float64)
    x = x @ torch.linalg.qr(normal(width, width)).Q + normal(width)
    if inv_freq is None:
        inv_freq = 10_000.0 ** -(torch.arange(0, head_dim, 2) / head_dim)
    statistics = statistics_of(weights, x, shape, draw)
    return Case(shape, weights, statistics, x, inv_freq)


def statistics_of(
    weights: AttentionWeights, x: Tensor, shape: Shape, draw: torch.Generator
) -> LayerStatistics:
    """What calibration would keep of these inputs; gradients, attention and constants are drawn."""
    norms = PairNorms(shape.heads, shape.kv_heads, shape.head_dim)
    norms.add(*(x @ weight.T for weight in (weights.q, weights.k)))
    kv = shape.kv_heads * shape.head_dim
    gradients = torch.randn(len(x), 2 * kv, generator=draw, dtype=torch.float64)
    gradients = gradients @ torch.randn(2 * kv, 2 * kv, generator=draw, dtype=torch.float64)
    moments = GradientMoments(shape.width, shape.kv_heads, shape.head_dim)
    moments.add(x, *gradients.chunk(2, dim=1))
    fisher = moments.finish()
    mass = torch.randn(shape.heads, 64, generator=draw, dtype=torch.float64).softmax(dim=1)
    found = LayerStatistics(
        contribution=norms.contribution(),
        input_covariance=x.T @ x / len(x),
        input_mean=x.mean(dim=0),
        input_l1=x.abs().mean(dim=0),
        attention_mass=mass,
        tokens=len(x),
        derotation=torch.randn(2, shape.heads, shape.head_dim // 2, generator=draw, dtype=torch.float64),
    )
    return replace(found, **fisher | {"fisher_tokens": int(fisher["fisher_tokens"])})


def attend(weights: AttentionWeights, x: Tensor, inv_freq: Tensor, shape: Shape) -> Tensor:
    """The original attention, causal, on x (T, d): written down from its definition."""
    # angles, cosines and sines are float32 in the model, whatever its dtype
    angles = torch.arange(len(x), dtype=torch.float32)[:, None] * inv_freq.float()
    turns = torch.complex(angles.cos().double(), angles.sin().double())

    def heads_of(weight: Tensor, bias: Tensor | None, count: int) -> Tensor:
        states = x @ weight.T if bias is None else x @ weight.T + bias
        each = states.view(len(x), count, -1).transpose(0, 1)
        return each.repeat_interleave(shape.heads // count, dim=0)

    def rotated(states: Tensor) -> Tensor:
        return torch.complex(*states.chunk(2, dim=-1)) * turns

    query = rotated(heads_of(weights.q, weights.q_bias, shape.heads))
    key = rotated(heads_of(weights.k, weights.k_bias, shape.kv_heads))
    value = heads_of(weights.v, weights.v_bias, shape.kv_heads)
    scores = (query @ key.mH).real * shape.head_dim**-0.5
    scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
    mixed = (scores.softmax(dim=-1) @ value).transpose(0, 1).flatten(1)
    output = mixed @ weights.o.T
    return output if weights.o_bias is None else output + weights.o_bias
