# SPDX-License-Identifier: Apache-2.0
"""The constants that stand in for dropped rotations are the least-squares fit they are said to be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from random_layer import random_case
from torch import Tensor
from transformers import AutoModelForCausalLM

from core.arch.llama import LLAMA
from core.calibrate.derotation import DerotationMoments
from core.calibrate.fisher import sample
from core.calibrate.layer_statistics import load_statistics
from core.calibrate.steps import Sample, calibrate
from core.facts import read_facts
from core.rope.attention_mass import rotate
from core.rope.score_rule import ScoreRule
from core.spec import Recipe
from core.weights.skeleton import Skeleton

HEADS, KV_HEADS, HEAD_DIM, TOKENS = 4, 2, 8, 12
# float64 sums of some hundred terms
ROUNDING = 1e-10


def turns_of(inv_freq: Tensor, tokens: int) -> Tensor:
    """e^{i (t - s) theta_f}: (t, s, f)."""
    distance = torch.arange(tokens, dtype=torch.float64)[:, None] - torch.arange(tokens)
    angles = distance[:, :, None] * inv_freq.double()
    return torch.polar(torch.ones_like(angles), angles)


PLAIN = ScoreRule(HEAD_DIM**-0.5)


def slopes_of(
    query: Tensor, key: Tensor, value: Tensor, gradient: Tensor, rotation: Any, rule: ScoreRule = PLAIN
) -> Tensor:
    """dL/ds_ts of every head (n_h, T, T), by autograd at the logits; gradient (T, n_h d_h) is dL/do."""
    tokens, group = len(query), HEADS // KV_HEADS
    rotated = rotate(query, HEADS, *rotation)
    keys = rotate(key, KV_HEADS, *rotation).repeat_interleave(group, dim=0)
    values = value.view(tokens, KV_HEADS, -1).transpose(0, 1).repeat_interleave(group, dim=0)
    logits = (rotated @ keys.mT / (query.shape[1] // HEADS) ** 0.5).detach().requires_grad_()
    distance = torch.arange(tokens)[:, None] - torch.arange(tokens)
    unseen = (distance < 0) | (distance >= (rule.window or tokens))
    capped = logits if rule.softcap is None else rule.softcap * (logits / rule.softcap).tanh()
    mixed = (capped.masked_fill(unseen, -torch.inf).softmax(dim=-1) @ values).transpose(0, 1).flatten(1)
    (slopes,) = torch.autograd.grad((mixed * gradient).sum(), logits)
    return slopes


def sums_of(query: Tensor, key: Tensor, slopes: Tensor, inv_freq: Tensor) -> tuple[Tensor, Tensor]:
    """(sum_s |k_s|^2 b_s conj(a_s), sum_s |k_s|^2 |a_s|^2), each (n_h, d_h/2), densely over t and s."""
    tokens = len(query)
    queries = torch.complex(*query.double().view(tokens, HEADS, -1).chunk(2, dim=-1))
    keys = torch.complex(*key.double().view(tokens, KV_HEADS, -1).chunk(2, dim=-1))
    keys = keys.repeat_interleave(HEADS // KV_HEADS, dim=1)
    slopes = slopes.to(torch.complex128)
    a = torch.einsum("hts,thf->shf", slopes, queries)
    b = torch.einsum("hts,tsf,thf->shf", slopes, turns_of(inv_freq, tokens), queries)
    weight = keys.abs().square()
    return (weight * b * a.conj()).sum(dim=0), (weight * a.abs().square()).sum(dim=0)


def rotation_of(inv_freq: Tensor, tokens: int, size: float = 1.0) -> tuple[Tensor, Tensor]:
    """cos and sin (T, d_h) in the half-split layout, as transformers makes them."""
    angles = (torch.arange(tokens, dtype=torch.float64)[:, None] * inv_freq.double()).repeat(1, 2)
    return size * angles.cos(), size * angles.sin()


def window(seed: int) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """((q, k, v), dL/do) of one random window."""
    draw = torch.Generator().manual_seed(seed)
    widths = (HEADS, KV_HEADS, KV_HEADS, HEADS)
    made = [torch.randn(TOKENS, n * HEAD_DIM, generator=draw, dtype=torch.float64) for n in widths]
    return (made[0], made[1], made[2]), made[3]


def fitted(windows: list[Any], rotation: tuple[Tensor, Tensor], rule: ScoreRule = PLAIN) -> Tensor:
    moments = DerotationMoments(HEADS, KV_HEADS, HEAD_DIM, rule)
    for states, gradient in windows:
        moments.add(states, gradient, rotation)
    return torch.complex(*moments.constants())


@pytest.mark.parametrize(
    ("size", "rule"),
    [(1.0, PLAIN), (1.3, PLAIN), (1.0, ScoreRule(HEAD_DIM**-0.5, window=5, softcap=1.5))],
    ids=["plain", "scaled as by yarn", "in a window, capped"],
)
def test_constants_equal_the_dense_sums(size: float, rule: ScoreRule) -> None:
    """Two windows, sums over all t and s, gradients at the logits by autograd (core/rope/derotate.py)."""
    inv_freq = torch.tensor([1.0, 0.3, 0.05, 0.0])
    rotation = rotation_of(inv_freq, TOKENS, size)
    windows = [window(0), window(1)]
    cross, energy = 0, 0
    for (query, key, value), gradient in windows:
        slopes = slopes_of(query, key, value, gradient, rotation, rule)
        found = sums_of(query, key, slopes, inv_freq)
        cross, energy = cross + found[0], energy + found[1]
    constants = fitted(windows, rotation, rule)
    assert (constants - cross / energy).abs().max() < ROUNDING
    assert (constants[:, 3] - 1).abs().max() < ROUNDING  # a pair that does not turn is replaced by itself
    assert (constants[:, 0] - 1).abs().min() > 0.1


def test_a_window_of_logits_may_be_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rotation = rotation_of(torch.tensor([1.0, 0.3, 0.05, 0.0]), TOKENS)
    whole = fitted([window(0)], rotation)
    monkeypatch.setattr("core.calibrate.derotation._LOGITS", 5 * HEADS * TOKENS)
    assert (fitted([window(0)], rotation) - whole).abs().max() < ROUNDING


def test_a_pair_that_says_nothing_gets_one() -> None:
    (query, key, value), gradient = window(0)
    query = query.view(TOKENS, HEADS, HEAD_DIM).clone()
    query[:, 2, [1, 5]] = 0  # both halves of pair 1 of head 2
    constants = fitted([((query.flatten(1), key, value), gradient)], rotation_of(torch.rand(4), TOKENS))
    assert constants[2, 1] == 1
    assert constants.isfinite().all()


def test_streamed_constants_equal_autograd_through_the_whole_model(
    tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    """The calibration of a checkpoint, layer by layer, against one backward pass through all of it."""
    model = tiny_llama(attention_bias=True, num_hidden_layers=2)
    windows = torch.randint(2, 256, (3, 20), generator=torch.Generator().manual_seed(5))
    skeleton, facts = Skeleton(model, LLAMA, torch.device("cpu")), read_facts(str(model))
    read = Sample(windows, fisher_windows=3, seed=7, derotation=True)
    list(calibrate(skeleton, facts, LLAMA, read, tmp_path))
    whole = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    seen: list[dict[str, Tensor]] = [{} for _ in whole.model.layers]
    for kept, block in zip(seen, whole.model.layers, strict=True):
        watch(block.self_attn, kept)
    logits = whole(windows).logits.flatten(0, 1)
    labels = sample(logits.detach().softmax(dim=-1), torch.Generator().manual_seed(7))
    torch.nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
    inv_freq = whole.model.rotary_emb.inv_freq
    rotation = rotation_of(inv_freq, 20)
    for index, kept in enumerate(seen):
        cross, energy = 0, 0
        for row in range(3):
            query, key, value = (kept[name][row].detach().double() for name in ("q_proj", "k_proj", "v_proj"))
            gradient = kept["o_proj"].grad
            assert gradient is not None
            slopes = slopes_of(query, key, value, gradient[row].double(), rotation)
            found = sums_of(query, key, slopes, inv_freq)
            cross, energy = cross + found[0], energy + found[1]
        derotation = load_statistics(tmp_path, index).derotation
        assert derotation is not None
        # the calibration runs in float32; constants are of size one
        assert (torch.complex(*derotation) - cross / energy).abs().max() < 1e-3


def watch(attention: Any, kept: dict[str, Tensor]) -> None:
    """Keep the outputs of q, k, v and the input of o, which gets its gradient."""

    def output(name: str) -> Callable[..., None]:
        def keep(module: Any, inputs: tuple[Tensor], found: Tensor) -> None:
            kept[name] = found

        return keep

    def mixed(module: Any, inputs: tuple[Tensor]) -> None:
        inputs[0].retain_grad()
        kept["o_proj"] = inputs[0]

    for name in ("q_proj", "k_proj", "v_proj"):
        getattr(attention, name).register_forward_hook(output(name))
    attention.o_proj.register_forward_pre_hook(mixed)


@pytest.mark.parametrize("mix", ["none", "complex"])
def test_pairs_that_go_on_rotating_are_not_touched(mix: str) -> None:
    """Only what stops rotating meets a constant."""
    case = random_case()
    budget = {"rope_dim": 4, "kv_rank": 12}
    plain, constant = (
        case.converted(
            Recipe(rope_select="logit-damage", rope_mix=mix, rope_derotate=name), **budget
        ).q_proj.weight.view(case.shape.heads, -1, case.shape.width)
        for name in ("identity", "expected")
    )
    if mix == "none":  # mixed pairs are also chosen by what a constant can do for them
        assert constant[:, -4:].equal(plain[:, -4:])
    assert (constant[:, :-4] - plain[:, :-4]).abs().max() > 0.1


@pytest.mark.parametrize("mix", ["none", "complex"])
def test_constants_do_not_matter_when_every_pair_rotates(mix: str) -> None:
    case = random_case()
    recipe = Recipe(rope_select="logit-damage", rope_mix=mix, rope_derotate="expected")
    assert case.difference(case.converted(recipe, keep=1.0)) < 1e-9
