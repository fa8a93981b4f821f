# SPDX-License-Identifier: Apache-2.0
"""Mixing KV heads moves across RoPE for free, and gathers what the rotation carries in few pairs."""

import pytest
import torch
from random_layer import Case, Shape, random_case
from torch import Tensor

from core.convert import Factoring
from core.rope.mix import MIX, Fold, PairMoments, fixed_folds, fold
from core.rope.moments import cross_pair_moments
from core.rope.pairs import coherence, from_pairs, rotation_energy, to_pairs
from core.rope.parting import augmented, energies_of, rotation_of
from core.rope.select import Slot, shared_pairs
from core.rope.split import affine, shared
from core.spec import Recipe

# float64 rounding through a softmax; matrices that are inverted here have condition numbers below 1e3
ROUNDING = 1e-9
SHARED = {"rope_select": "logit-damage"}


def moments_of(case: Case, mix: str = "complex") -> PairMoments:
    """The moments a layer's folds are built from."""
    query, key = (affine(w, b) for w, b in ((case.weights.q, case.weights.q_bias), (case.weights.k, None)))
    recipe = Recipe(rope_mix=mix, **SHARED)
    rotation = rotation_of(query, case.statistics, case.inv_freq, case.shape.kv_heads, recipe)
    keys = cross_pair_moments(key, augmented(case.statistics), case.shape.kv_heads)
    return PairMoments(keys, rotation, case.inv_freq.double())


def normal(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.complex128)


@pytest.mark.parametrize("has_bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize(("heads", "kv_heads"), [(6, 3), (4, 4), (4, 1)], ids=["GQA", "MHA", "MQA"])
@pytest.mark.parametrize("mix", MIX)
def test_every_mixed_pair_kept_gives_the_original_attention(
    mix: str, heads: int, kv_heads: int, has_bias: bool
) -> None:
    """TransMLA, section 4.2: U_l commutes with the rotation, so that all pairs of the mixed heads are as good
    as the original ones."""
    case = random_case(shape=Shape(heads, kv_heads, has_bias=has_bias))
    everything = {"rope_dim": kv_heads * case.shape.head_dim, "kv_rank": case.shape.head_dim}
    module = case.converted(Recipe(rope_mix=mix, **SHARED), **everything)
    assert module.shape.kv_lora_rank == kv_heads * case.shape.head_dim  # the values alone
    assert case.difference(module) < ROUNDING


def test_dropping_a_pair_is_not_exact() -> None:
    """Otherwise the tests of exactness could not fail."""
    case = random_case()
    module = case.converted(Recipe(rope_mix="complex", **SHARED), rope_dim=22, kv_rank=9)
    assert case.difference(module) > 1e-4


@pytest.mark.parametrize("seed", range(3))
def test_any_invertible_complex_mixing_leaves_the_scores_unchanged(seed: int) -> None:
    """methods.md: k' = A_f k and q' = A_f^{-H} q, for any invertible A_f at every frequency."""
    case = random_case(seed)
    kv_heads, pairs = case.shape.kv_heads, case.shape.head_dim // 2
    recipe = Recipe(rope_mix="complex", **SHARED)
    query, key = affine(case.weights.q, None), affine(case.weights.k, None)
    slots = []
    for pair in range(pairs):
        mixing = normal(kv_heads, kv_heads, seed=10 * seed + pair)
        any_fold = Fold(
            pair, pair + 1, mixing, torch.linalg.inv(mixing), torch.ones(kv_heads), case.inv_freq[pair]
        )
        slots += [Slot(any_fold, index, float(case.inv_freq[pair])) for index in range(kv_heads)]
    split = shared(query, query, key, slots, kv_heads)
    plan = case.plan(recipe, keep=1.0)
    tensors, _, _ = Factoring(case.weights, split, case.statistics, plan, recipe).at(plan)
    assert split.key_nope.abs().max() < ROUNDING  # the components carry all of every key
    assert case.difference(case.module(plan, tensors)) < ROUNDING


@pytest.mark.parametrize("mix", MIX)
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_components_put_together_are_the_key_again(mix: str, size: int) -> None:
    for one in fixed_folds(moments_of(random_case()), mix, size):
        eye = torch.eye(len(one.damage), dtype=torch.complex128)
        assert (one.encode @ one.read - eye).abs().max() < ROUNDING
        assert (one.read @ one.encode - eye).abs().max() < ROUNDING


@pytest.mark.parametrize("size", [1, 2])
def test_roro_matrices_are_real_rotations(size: int) -> None:
    """RoRoPE (TransMLA, section 4.2) turns real and imaginary parts alike, by one orthogonal matrix."""
    for one in fixed_folds(moments_of(random_case()), "roro", size):
        assert one.encode.imag.abs().max() == 0
        assert (one.encode @ one.encode.mH - torch.eye(len(one.damage))).abs().max() < ROUNDING
        assert (one.read - one.encode.mH).abs().max() == 0


def logit_energy_lost(moments: PairMoments, one: Fold, kept: list[int]) -> float:
    """E|D^{1/2} (k - what the kept components give back)|^2, from the definition."""
    keys, weight = moments.block(one.first, one.last), moments.rotation[one.first : one.last].flatten()
    lost = torch.eye(len(weight), dtype=keys.dtype) - one.read[:, kept] @ one.encode[kept]
    return float(((lost @ keys @ lost.mH).diagonal().real * weight).sum())


@pytest.mark.parametrize("size", [1, 2])
def test_complex_damages_are_the_logit_energies_of_what_is_dropped(size: int) -> None:
    """They add up to tr(D E[k k^H]), and to what is really lost whichever components stay."""
    moments = moments_of(random_case())
    for one in fixed_folds(moments, "complex", size):
        total = logit_energy_lost(moments, one, [])
        assert float(one.damage.sum()) == pytest.approx(total, rel=1e-6)
        count = len(one.damage)
        for kept in ([0], [count - 1], [0, 2], list(range(count - 1))):
            lost = float(one.damage.sum() - one.damage[kept].sum())
            assert logit_energy_lost(moments, one, kept) == pytest.approx(lost, rel=1e-6, abs=1e-9 * total)


@pytest.mark.parametrize("size", [1, 2])
def test_no_other_basis_keeps_more_logit_energy(size: int) -> None:
    """Ky Fan: the first eigenvectors of D^{1/2} E[k k^H] D^{1/2} hold most; 100 random bases hold less."""
    moments = moments_of(random_case())
    for one in fixed_folds(moments, "complex", size):
        root = moments.rotation[one.first : one.last].flatten().sqrt()
        weighted = root[:, None] * moments.block(one.first, one.last) * root
        count = len(root)
        for seed in range(100):
            basis = torch.linalg.qr(normal(count, count, seed=seed)).Q
            kept = (basis.mH @ weighted @ basis).diagonal().real.cumsum(dim=0)
            assert (kept <= one.damage.cumsum(dim=0) * (1 + 1e-6)).all()


def test_complex_mixing_keeps_at_least_what_real_rotations_keep() -> None:
    """The reason to mix with complex numbers and query energies: RoRoPE's choice is one of the bases."""
    case = random_case()
    moments = moments_of(case)
    ours, theirs = (fixed_folds(moments, mix, 1) for mix in ("complex", "roro"))
    for mine, other in zip(ours, theirs, strict=True):
        for kept in range(len(mine.damage)):
            first = list(range(kept))
            lost = logit_energy_lost(moments, mine, first)
            assert lost <= logit_energy_lost(moments, other, first) * (1 + 1e-6) + 1e-12


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("mix", MIX)
def test_keeping_more_pairs_never_loses_more(seed: int, mix: str, size: int) -> None:
    """shared_pairs takes the largest damages first, so that what is left falls, in ever smaller steps."""
    case = random_case(seed)
    folds = fixed_folds(moments_of(case), mix, size)
    total = float(sum(one.damage.sum() for one in folds))
    kept = [
        sum(float(slot.fold.damage[slot.component]) for slot in slots)
        for slots in (shared_pairs(folds, "logit-damage", count, 0, case.inv_freq) for count in range(13))
    ]
    steps = torch.tensor(kept, dtype=torch.float64).diff()
    assert kept[0] == 0
    assert kept[-1] == pytest.approx(total)
    assert (steps >= 0).all()
    assert (steps.diff() <= ROUNDING * total).all()


def test_the_rotation_carries_what_a_constant_cannot_replace() -> None:
    """rotation_energy by its definition: E|q|^2 E_D|e^{-i D theta} - c|^2, summed over a group's heads."""
    heads, kv_heads, pairs, context = 4, 2, 3, 50
    draw = torch.Generator().manual_seed(0)
    energy = torch.rand(heads, pairs, generator=draw, dtype=torch.float64)
    mass = torch.rand(heads, context, generator=draw, dtype=torch.float64)
    mass = mass / mass.sum(dim=1, keepdim=True)
    angles = torch.tensor([1.0, 0.3, 0.0], dtype=torch.float64)
    turns = torch.polar(
        torch.ones(context, pairs, dtype=torch.float64), -torch.arange(context)[:, None] * angles
    )
    best = torch.einsum("ht,tf->hf", mass.to(turns.dtype), turns)
    assert (coherence(mass, angles) - best).abs().max() < ROUNDING
    for fitted, constant in ((True, best), (False, torch.ones_like(best))):
        left = torch.einsum("ht,thf->hf", mass, (turns[:, None] - constant).abs().square()) * energy
        wanted = left.view(kv_heads, -1, pairs).sum(dim=1).T
        found = rotation_energy(energy, mass, angles, kv_heads, fitted)
        assert (found - wanted).abs().max() < ROUNDING
        assert (found >= 0).all(), "a root is taken of it"


def test_a_layer_that_looks_at_no_distance_can_still_be_mixed() -> None:
    """All attention on the token itself: the rotation carries nothing, and its roots must not become NaN."""
    mass = torch.zeros(4, 1000, dtype=torch.float64)
    mass[:, 0] = 1
    rotation = rotation_energy(torch.rand(4, 8, dtype=torch.float64), mass, torch.rand(8), 2, True)
    keys = torch.eye(16, dtype=torch.complex128)
    for mix in MIX:
        one = fold(PairMoments(keys, rotation, torch.full((8,), 0.25, dtype=torch.float64)), 2, 3, mix)
        assert one.read.isfinite().all()
        assert one.inv_freq.tolist() == pytest.approx([0.25, 0.25])


def test_pairs_of_a_projection_are_its_rows_again() -> None:
    rows = normal(24, 5).real.contiguous()
    assert from_pairs(to_pairs(rows, 3)).flatten(0, 1).equal(rows)


def test_energies_are_means_over_the_inputs_biases_included() -> None:
    case = random_case(shape=Shape(has_bias=True))
    weight, bias = case.weights.k, case.weights.k_bias
    assert bias is not None
    states = (case.x @ weight.T + bias).view(len(case.x), case.shape.kv_heads, 2, -1)
    wanted = states.square().sum(dim=2).mean(dim=0).T
    found = energies_of(affine(weight, bias), case.statistics, case.shape.kv_heads)
    assert (found - wanted).abs().max() < ROUNDING
