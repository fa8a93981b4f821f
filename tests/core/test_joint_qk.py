# SPDX-License-Identifier: Apache-2.0
"""Joint QK minimises the error of the attention scores over all latents that can be shipped."""

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from core.factor.joint_qk import JointQK, Scores, joint_qk, spectra, split_by_head
from core.factor.local import local_factors
from core.factor.tucker import Effort

# float64 rounding of a few thousand terms, relative to the total
ROUNDING = 1e-10
EXACT = Effort(tolerance=1e-13, sweeps=2000)


@dataclass(frozen=True)
class Shape:
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 4
    width: int = 10
    rotary_dim: int = 4
    has_bias: bool = False


def random_scores(seed: int = 0, shape: Shape | None = None) -> Scores:
    """Random projections, inputs with a mean and a spectrum, attention over five offsets."""
    shape = shape or Shape()
    draw = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=draw, dtype=torch.float64)

    turn = torch.linalg.qr(normal(shape.width, shape.width)).Q
    x = normal(200, shape.width) * torch.logspace(0.5, -1, shape.width, dtype=torch.float64) @ turn
    x = x + normal(shape.width)
    inv_freq = 0.3 ** torch.arange(shape.rotary_dim // 2, dtype=torch.float64)
    found = Scores(
        normal(shape.heads, shape.head_dim, shape.width),
        normal(shape.kv_heads, shape.head_dim, shape.width),
        x.T @ x / len(x),
        normal(shape.heads, 5).softmax(dim=1),
        inv_freq if shape.rotary_dim else None,
    )
    if not shape.has_bias:
        return found
    biases = normal(shape.heads, shape.head_dim), normal(shape.kv_heads, shape.head_dim)
    return replace(found, mean=x.mean(dim=0), query_bias=biases[0], key_bias=biases[1])


def rotation(angles: Tensor, head_dim: int) -> Tensor:
    """The matrix by which a model turns the first channels of a head, in the half-split layout."""
    cos, sin = angles.cos().diag(), angles.sin().diag()
    turning = torch.cat([torch.cat([cos, -sin], dim=1), torch.cat([sin, cos], dim=1)])
    return torch.block_diag(turning, torch.eye(head_dim - len(turning), dtype=torch.float64))


def error(scores: Scores, query: Tensor, key: Tensor) -> Tensor:
    """The objective from its definition, for projections (n_h, d_h, d) and (n_kv, d_h, d)."""
    inputs, group = scores.roots()[0], len(scores.query) // len(scores.key)
    lost = torch.zeros((), dtype=torch.float64)
    for offset in range(scores.mass.shape[1]):
        turn = torch.eye(query.shape[1], dtype=torch.float64)
        if scores.inv_freq is not None:
            turn = rotation(-offset * scores.inv_freq, query.shape[1])
        keys, wanted = ((turn @ each).repeat_interleave(group, dim=0) @ inputs for each in (key, scores.key))
        missed = inputs @ (scores.query.mT @ wanted - query.mT @ keys)
        lost = lost + (scores.mass[:, offset] * missed.square().sum(dim=(1, 2))).sum()
    return lost


def by_head(found: JointQK, scores: Scores) -> tuple[Tensor, Tensor]:
    """The projections (n_h, d_h, d) and (n_kv, d_h, d) of the result."""
    query = scores.query if found.query is None else found.query.product().view_as(scores.query)
    return query, scores.key if found.key is None else found.key.product().view_as(scores.key)


def wanted_forms(scores: Scores) -> tuple[Tensor, Tensor]:
    """sqrt(p_i(D)) times G_{i,D} (n_h, window, d, d) and times R_D (n_h, window, d_h, d_h)."""
    head_dim, group = scores.query.shape[1], len(scores.query) // len(scores.key)
    offsets = range(scores.mass.shape[1])
    inv_freq = torch.empty(0, dtype=torch.float64) if scores.inv_freq is None else scores.inv_freq
    turns = torch.stack([rotation(-offset * inv_freq, head_dim) for offset in offsets])
    query, key = (
        scores.query @ scores.roots()[0],
        scores.key.repeat_interleave(group, dim=0) @ scores.roots()[0],
    )
    weighed = scores.mass.sqrt()[:, :, None, None] * turns
    return query.mT[:, None] @ weighed @ key[:, None], weighed


def descended(scores: Scores, ranks: tuple[int, int], seed: int) -> float:
    """L-BFGS from a random start over four free matrices, up and down of queries and of keys. Those at the
    inputs stand behind C^{1/2}, so that the descent is not slowed by the spectrum of the inputs."""
    draw = torch.Generator().manual_seed(seed)
    (heads, head_dim, width), kv = scores.query.shape, len(scores.key)
    sizes = (heads, head_dim, ranks[0]), (ranks[0], width), (kv, head_dim, ranks[1]), (ranks[1], width)
    free = [torch.randn(size, generator=draw, dtype=torch.float64) for size in sizes]
    for each in free:
        each.requires_grad_()
    optimiser = torch.optim.LBFGS(
        free, max_iter=200, tolerance_grad=1e-7, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )
    forms, weighed = wanted_forms(scores)

    def closure() -> Tensor:
        optimiser.zero_grad()
        keys = (free[2] @ free[3]).repeat_interleave(heads // kv, dim=0)
        queries = free[0] @ free[1]
        lost = (forms - queries.mT[:, None] @ weighed @ keys[:, None]).square().sum()
        lost.backward()
        return lost

    optimiser.step(closure)
    return float(closure().detach())


CASES = [(Shape(), (3, 2)), (Shape(kv_heads=4, rotary_dim=2), (2, 4)), (Shape(rotary_dim=0), (2, 2))]


@pytest.mark.parametrize(("shape", "ranks"), CASES, ids=["GQA, RoPE", "MHA, partial rotary", "GQA, NoPE"])
def test_no_free_factors_are_better(shape: Shape, ranks: tuple[int, int]) -> None:
    """The best of four L-BFGS descents over every number of the shipped factors ends where the alternating
    eigenproblems do. It stops within 1e-6 of a minimum it has found."""
    scores = random_scores(3, shape)
    found = joint_qk(scores, *ranks, EXACT)
    ends = [descended(scores, ranks, seed) for seed in range(4)]
    assert min(ends) >= found.losses[-1] * (1 - 1e-9)
    assert min(ends) == pytest.approx(found.losses[-1], rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [Shape(), Shape(rotary_dim=2), Shape(rotary_dim=0)], ids=str)
def test_the_error_is_what_it_is_said_to_be_and_stationary(seed: int, shape: Shape) -> None:
    """losses[-1] is the objective from its definition, its gradient is nothing, and it never rose."""
    scores = random_scores(seed, shape)
    found = joint_qk(scores, 4, 3, EXACT)
    free = [each.clone().requires_grad_() for each in (*(found.query or ()), *(found.key or ()))]
    query, key = (free[0] @ free[1]).view_as(scores.query), (free[2] @ free[3]).view_as(scores.key)
    lost = error(scores, query, key)
    assert float(lost.detach()) == pytest.approx(found.losses[-1], rel=1e-8)
    lost.backward()
    for each in free:
        assert each.grad is not None
        # alternation stops when a sweep gains 1e-13 of the loss, and a loss is quadratic in what is missing
        assert each.grad.norm() * each.norm() < 1e-5 * found.total
    nothing = [torch.zeros_like(each) for each in (scores.query, scores.key)]
    assert found.total == pytest.approx(float(error(scores, *nothing)), rel=1e-10)
    for before, after in pairwise(found.losses):
        assert after <= before + ROUNDING * found.total


def test_more_starts_find_the_optimum_where_one_does_not() -> None:
    """White inputs are the hardest: here the HOSVD start ends 6.9 % above the best of many."""
    draw = torch.Generator().manual_seed(56)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=draw, dtype=torch.float64)

    x = normal(200, 10)
    mass = normal(4, 5).softmax(dim=1)
    scores = Scores(
        normal(4, 4, 10), normal(2, 4, 10), x.T @ x / 200, mass, torch.tensor([1.0, 0.3], dtype=torch.float64)
    )
    one = joint_qk(scores, 2, 2, EXACT)
    many = joint_qk(scores, 2, 2, replace(EXACT, starts=8))
    assert one.losses[-1] > 1.05 * many.losses[-1]
    ends = [descended(scores, (2, 2), seed) for seed in range(4)]
    assert min(ends) == pytest.approx(many.losses[-1], rel=1e-5)


@pytest.mark.parametrize("rotary_dim", [0, 2, 4])
def test_with_queries_left_whole_one_eigenproblem_is_the_optimum(rotary_dim: int) -> None:
    """Then the error is ||G^{1/2} (W_k - W'_k) C^{1/2}|| with G the moments of the queries that meet the
    keys, turned back by the offsets, so Eckart and Young apply."""
    scores = random_scores(1, Shape(heads=2, kv_heads=2, rotary_dim=rotary_dim))
    found = joint_qk(scores, None, 3)
    assert found.query is None
    assert len(found.losses) == 1
    queries = scores.query @ scores.covariance @ scores.query.mT
    metric = torch.zeros_like(queries)
    for offset in range(5):
        turn = torch.eye(4, dtype=torch.float64)
        if scores.inv_freq is not None:
            turn = rotation(-offset * scores.inv_freq, 4)
        metric += scores.mass[:, offset, None, None] * (turn.T @ queries @ turn)
    best = local_factors(scores.key.flatten(0, 1), scores.roots()[0], torch.block_diag(*metric))
    assert found.losses[0] == pytest.approx(best.tail(3), rel=1e-8)
    assert found.key is not None
    up, down = best.at(3)
    assert (found.key.product() - up @ down).abs().max() < 1e-8


def test_keys_left_whole_are_the_mirror_image() -> None:
    scores = random_scores(1)
    found = joint_qk(scores, 3, None)
    assert found.key is None
    assert float(error(scores, *by_head(found, scores))) == pytest.approx(found.losses[-1], rel=1e-8)
    assert found.losses[-1] < joint_qk(scores, 3, 3, EXACT).losses[-1]


def test_full_rank_is_exact_and_spectra_bound_the_error() -> None:
    scores = random_scores(2)
    full = joint_qk(scores, 10, 8)
    query, key = by_head(full, scores)
    assert (query - scores.query).abs().max() < 1e-8
    assert (key - scores.key).abs().max() < 1e-8
    queries, keys = spectra(scores)
    for ranks in ((1, 1), (4, 2), (9, 7)):
        lost = joint_qk(scores, *ranks, EXACT).losses[-1]
        tails = float(queries[ranks[0] :].sum()), float(keys[ranks[1] :].sum())
        assert max(tails) * (1 - 1e-9) <= lost <= sum(tails) * (1 + 1e-9)


def test_joint_is_never_worse_than_local() -> None:
    """Local factors of W_q and W_k in the root covariance lie in the set that joint searches."""
    for seed in range(5):
        scores = random_scores(seed)
        local = []
        for weight, rank in ((scores.query, 4), (scores.key, 3)):
            up, down = local_factors(weight.flatten(0, 1), scores.roots()[0]).at(rank)
            local.append((up @ down).view_as(weight))
        assert joint_qk(scores, 4, 3).losses[-1] < float(error(scores, *local))


@pytest.mark.parametrize("rotary_dim", [0, 4])
def test_biases_and_means_survive(rotary_dim: int) -> None:
    """Augmented with a one, x has the moments [[C, mu], [mu^T, 1]]; the error over the augmented inputs, with
    biases as a further column, is the one reported, and no bias or factor near by is better."""
    plain = random_scores(4, Shape(rotary_dim=rotary_dim, has_bias=True))
    assert plain.mean is not None
    assert plain.query_bias is not None
    assert plain.key_bias is not None
    found = joint_qk(plain, 3, 2, EXACT)
    assert found.query_bias is not None
    assert found.key_bias is not None
    mean = plain.mean[:, None]
    moments = torch.cat(
        [torch.cat([plain.covariance, mean], dim=1), torch.cat([mean.T, torch.ones(1, 1).double()], dim=1)]
    )
    augmented = Scores(
        torch.cat([plain.query, plain.query_bias[..., None]], dim=2),
        torch.cat([plain.key, plain.key_bias[..., None]], dim=2),
        moments,
        plain.mass,
        plain.inv_freq,
    )
    free = [*(found.query or ()), found.query_bias[:, None], *(found.key or ()), found.key_bias[:, None]]
    free = [each.clone().requires_grad_() for each in free]
    query, key = (
        torch.cat([free[0] @ free[1], free[2]], dim=1),
        torch.cat([free[3] @ free[4], free[5]], dim=1),
    )
    lost = error(augmented, query.view_as(augmented.query), key.view_as(augmented.key))
    assert float(lost.detach()) == pytest.approx(found.losses[-1], rel=1e-7)
    lost.backward()
    for each in free:
        assert each.grad is not None
        assert each.grad.norm() * each.norm() < 1e-5 * found.total
    # the one costs no rank: as free columns of ranks 3 and 2 the augmented problem loses more
    assert found.losses[-1] < joint_qk(augmented, 3, 2, EXACT).losses[-1]
    full = joint_qk(plain, 10, 8)
    assert full.query_bias is not None
    assert (full.query_bias - plain.query_bias.flatten()).abs().max() < 1e-8


def test_latents_by_head_lose_more_than_shared_ones() -> None:
    """Per KV head the result is that of the head alone, `up` is block diagonal, and sharing is better."""
    scores = random_scores(5)
    split = split_by_head(scores, 4, 2, EXACT)
    assert split.query is not None
    assert split.key is not None
    assert split.key.up.shape == (8, 2)
    assert not split.key.up[4:, :1].any()
    assert not split.query.up[:8, 2:].any()
    assert float(error(scores, *by_head(split, scores))) == pytest.approx(split.losses[-1], rel=1e-8)
    assert joint_qk(scores, 4, 2, EXACT).losses[-1] < split.losses[-1]
    with pytest.raises(ValueError, match="not multiples of 2 KV heads"):
        split_by_head(scores, 4, 3)


def test_ranks_that_do_not_exist_are_refused() -> None:
    scores = random_scores(0)
    with pytest.raises(ValueError, match="rank 9 is not between 1 and 8"):
        joint_qk(scores, 4, 9)
    with pytest.raises(ValueError, match="biases can only be fitted with the mean"):
        joint_qk(replace(scores, key_bias=torch.zeros(2, 4)), 4, 4)
