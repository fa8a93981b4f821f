# SPDX-License-Identifier: Apache-2.0
"""factor.input and factor.output: the factors are the best there are in the metric they are said to be."""

from itertools import product

import pytest
import torch
from random_layer import Case, Shape, random_case
from torch import Tensor

from core.convert import Factoring, convert_layer, stack
from core.factor.local import local_factors
from core.factor.metrics import INPUT, OUTPUT, InputMoments, Stacked, input_moments, root
from core.rope.parting import part
from core.rope.split import affine
from core.spec import Recipe

# float64 rounding; the covariances of the test have condition numbers of 1e4
ROUNDING = 1e-8
PAIRS_OF_METRICS = list(product(INPUT, OUTPUT))
PRE_ROPE = Recipe(layout="pre-rope")


def stacked_of(case: Case, recipe: Recipe = PRE_ROPE, rope_dim: int | None = None) -> Stacked:
    """Keys over values as the recipe stacks them."""
    budget = {"keep": 0.5} if rope_dim is None else {"rope_dim": rope_dim, "kv_rank": 4}
    rows = (affine(case.weights.q, case.weights.q_bias), affine(case.weights.k, case.weights.k_bias))
    split, _ = part(*rows, case.statistics, case.inv_freq, case.plan(recipe, **budget), recipe)
    return stack(case.weights, split, case.statistics)


def metrics_of(case: Case, choice: tuple[str, str], stacked: Stacked) -> tuple[Tensor, Tensor]:
    """(G, P)."""
    inputs = INPUT[choice[0]](input_moments(case.statistics, choice[0]))
    return OUTPUT[choice[1]](stacked, case.statistics), inputs


def eye(size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)


def relative(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("rank", [1, 5, 20])
def test_root_covariance_cholesky_and_output_pca_are_one_product(rank: int) -> None:
    """methods.md: truncating W C^{1/2} (CARE, LatentLLM), W L with L L^T = C (SVD-LLM) and projecting on the
    main directions of W C W^T (TransMLA) give the same W'."""
    case = random_case()
    weight, moments = stacked_of(case).both, case.statistics.input_covariance
    up, down = local_factors(weight, root(moments)).at(rank)
    lower = torch.linalg.cholesky(moments)
    left, singular, right = torch.linalg.svd(weight @ lower, full_matrices=False)
    svd_llm = (left[:, :rank] * singular[:rank]) @ right[:rank] @ torch.linalg.inv(lower)
    main = torch.linalg.eigh(weight @ moments @ weight.T).eigenvectors[:, -rank:]
    assert relative(up @ down, svd_llm) < ROUNDING
    assert relative(up @ down, main @ main.T @ weight) < ROUNDING


def test_no_small_change_of_the_factors_is_better_in_both_metrics() -> None:
    """||G^{1/2} (W - U D) C^{1/2}||: 200 random steps from the optimum, of three sizes, all lose."""
    case = random_case()
    stacked, rank = stacked_of(case), 10
    output, inputs = metrics_of(case, ("root-covariance", "fisher"), stacked)
    weight, left = stacked.both, root(output)
    found = local_factors(weight, inputs, output)
    up, down = found.at(rank)

    def error(up: Tensor, down: Tensor) -> float:
        return float((left @ (weight - up @ down) @ inputs).square().sum())

    best, draw = error(up, down), torch.Generator().manual_seed(0)
    assert best == pytest.approx(float(found.squares[rank:].sum()), rel=1e-8)  # Eckart-Young
    moments = case.statistics.input_covariance
    lost = weight - up @ down  # and it is the error of the outputs, E[(E x)^T G (E x)]
    assert best == pytest.approx(float((output @ lost @ moments @ lost.T).trace()), rel=1e-8)
    for step in (1e-4, 1e-2, 1.0):
        for _ in range(200):
            moved = (
                one + step * one.norm() * torch.randn(one.shape, generator=draw, dtype=one.dtype) / 10
                for one in (up, down)
            )
            assert error(*moved) >= best * (1 - 1e-10)


@pytest.mark.parametrize("choice", PAIRS_OF_METRICS, ids="+".join)
def test_loss_falls_with_every_rank_to_nothing(choice: tuple[str, str]) -> None:
    """What each rank takes off the squared error is the square of its singular value; full rank is W."""
    case = random_case()
    stacked = stacked_of(case)
    output, inputs = metrics_of(case, choice, stacked)
    weight, left = stacked.both, root(output)
    found = local_factors(weight, inputs, output)
    losses = []
    for rank in range(len(found.squares) + 1):
        up, down = found.at(rank)
        losses.append((left @ (weight - up @ down) @ inputs).square().sum())
    saved = -torch.stack(losses).diff()
    assert (saved - found.squares).abs().max() < ROUNDING * float(losses[0])
    assert (found.squares.diff() <= 0).all()
    up, down = found.at(len(found.squares))
    assert relative(up @ down, weight) < 1e-6  # P and G are inverted on the way


@pytest.mark.parametrize("form", ["joint", "split"])
@pytest.mark.parametrize("choice", PAIRS_OF_METRICS, ids="+".join)
def test_full_rank_gives_the_attention_back_in_every_metric(choice: tuple[str, str], form: str) -> None:
    """Whatever is weighed how: with nothing cut nothing may change."""
    case = random_case(shape=Shape(width=48, has_bias=True))
    recipe = Recipe(
        layout="pre-rope", factor_input=choice[0], factor_output=choice[1], factor_form=form, mean_bias=True
    )
    assert case.difference(case.converted(recipe, keep=1.0)) < 1e-6


@pytest.mark.parametrize("layout", ["pre-rope", "latent+rope"])
def test_the_more_keys_weigh_the_better_they_are_kept(layout: str) -> None:
    """One latent for both: what the keys gain the values pay for, and 1 is where neither was asked for."""
    case = random_case()
    recipe = Recipe(layout=layout, factor_input="root-covariance", factor_output="balanced")
    found = []
    for weight in (0.1, 1.0, 10.0):
        weighed = recipe.model_copy(update={"key_weight": weight})
        plan = case.plan(weighed, keep=0.4)
        found.append(convert_layer(case.weights, case.statistics, case.inv_freq, plan, weighed))
    keys, values = [one.key_error for one in found], [one.value_error for one in found]
    assert keys == sorted(keys, reverse=True)
    assert values == sorted(values)
    assert keys[0] > keys[2] * 1.05


def test_input_metrics_are_their_formulas() -> None:
    case = random_case()
    moments = input_moments(case.statistics, "root-covariance")
    covariance = case.x.T @ case.x / len(case.x)
    wanted = {
        "identity": eye(40),
        "diag-l1": case.x.abs().mean(dim=0).sqrt().diag(),
        "diag-l2": case.x.square().mean(dim=0).sqrt().diag(),
        "diag-hessian": covariance.inverse().diagonal().rsqrt().diag(),
        "covariance": covariance,
    }
    for name, expected in wanted.items():
        assert relative(INPUT[name](moments), expected) < ROUNDING, name
    half = INPUT["root-covariance"](moments)
    assert relative(half @ half, covariance) < ROUNDING
    assert relative(half, half.T) < ROUNDING


def test_fisher_weights_lie_between_those_of_text_and_gradients() -> None:
    """root-fisher blends the covariance of all tokens with the one weighted by |g|^2 (K-FAC)."""
    case = random_case()
    statistics = case.statistics
    assert statistics.fisher_input is not None
    assert statistics.fisher_mean is not None
    found = input_moments(statistics, "root-fisher")
    weighted = statistics.fisher_input.mean(dim=0)
    share = (found.covariance - weighted) / (statistics.input_covariance - weighted)
    assert 0 < float(share[0, 0]) < 1
    assert (share - share[0, 0]).abs().max() < 1e-6
    mean = share[0, 0] * statistics.input_mean + (1 - share[0, 0]) * statistics.fisher_mean.mean(dim=0)
    assert relative(found.mean, mean) < ROUNDING


def test_damping_is_relative_to_the_inputs() -> None:
    """C + lambda mean(diag C) I: the same whatever unit the inputs have."""
    moments = InputMoments(torch.diag(torch.tensor([1.0, 3.0])).double(), torch.zeros(2), torch.ones(2))
    assert moments.damped(0.1).covariance.diagonal().tolist() == pytest.approx([1.2, 3.2])


def test_balanced_keys_are_scaled_to_the_values_as_by_transmla() -> None:
    """TransMLA, section 4.4 (BKV): keys divided by alpha = mean |k| / mean |v| per channel, PCA, and back."""
    case = random_case()
    stacked, rank = stacked_of(case), 12
    output, inputs = metrics_of(case, ("root-covariance", "balanced"), stacked)
    up, down = local_factors(stacked.both, inputs, output).at(rank)

    def mean_norm(weight: Tensor) -> Tensor:
        return (case.x @ weight.T).square().mean(dim=0).sqrt().mean()

    alpha = mean_norm(stacked.key) / mean_norm(stacked.value)
    scaled = torch.cat([stacked.key / alpha, stacked.value])
    assert float(mean_norm(scaled[: len(stacked.key)])) == pytest.approx(float(mean_norm(stacked.value)))
    states = case.x @ scaled.T
    main = torch.linalg.eigh(states.T @ states).eigenvectors[:, -rank:]
    wanted = main @ main.T @ scaled
    wanted[: len(stacked.key)] *= alpha
    assert abs(float(alpha) - 1) > 1e-2
    assert relative(up @ down, wanted) < ROUNDING


def test_attention_aware_errors_are_those_of_scores_and_outputs() -> None:
    """G's blocks measure sum_h E[(q_h . dk)^2] and sum_h E|W_O,h dv|^2, each in a unit of its own."""
    case = random_case()
    stacked, shape = stacked_of(case), case.shape
    metric = OUTPUT["attention-aware"](stacked, case.statistics)
    keys, group = len(stacked.key), shape.heads // shape.kv_heads
    queries = (case.x @ case.weights.q.T).view(len(case.x), shape.kv_heads, group, -1)
    heads = case.weights.o.view(shape.width, shape.kv_heads, group, -1)
    assert (metric[:keys, keys:] == 0).all()
    ratios: list[list[float]] = [[], []]
    for seed in range(3):
        draw = torch.Generator().manual_seed(seed)
        lost = torch.randn(2, keys, shape.width, generator=draw, dtype=torch.float64) @ case.x.T
        lost_key, lost_value = lost.view(2, shape.kv_heads, -1, len(case.x))
        scores = torch.einsum("tghd,gds->ghts", queries, lost_key).square().mean(dim=(2, 3)).sum()
        outputs = torch.einsum("xghd,gdt->ghxt", heads, lost_value).square().mean(dim=3).sum()
        for side, block, direct in ((0, metric[:keys, :keys], scores), (1, metric[keys:, keys:], outputs)):
            measured = ((block @ lost[side]) * lost[side]).sum() / len(case.x)
            ratios[side].append(float(measured / direct))
    for each in ratios:
        assert each == pytest.approx([each[0]] * 3, rel=1e-8)


@pytest.mark.parametrize("name", ["attention-aware", "fisher"])
def test_keys_and_values_weigh_as_when_balanced(name: str) -> None:
    """Attention-aware rescales both blocks, fisher only its share of the balanced one; neither may vanish."""
    case = random_case()
    stacked = stacked_of(case)
    weight, moments = stacked.both, case.statistics.input_covariance
    keys = len(stacked.key)
    shares = []
    for choice in ("balanced", name):
        energies = ((OUTPUT[choice](stacked, case.statistics) @ weight) * (weight @ moments)).sum(dim=1)
        shares.append(float(energies[:keys].sum() / energies.sum()))
    if name == "attention-aware":
        assert shares[1] == pytest.approx(shares[0])
    assert 0.05 < shares[1] < 0.95


def test_the_fisher_metric_takes_the_rows_that_are_in_the_latent() -> None:
    """Two pairs of each head rotate; off-diagonal entries are those of the other keys and all values."""
    case = random_case()
    stacked = stacked_of(case, Recipe(rope_select="high"), rope_dim=4)
    assert case.statistics.fisher is not None
    head = [2, 3, 6, 7]  # pairs 0 and 1 of four rotate: dims 0, 4 and 1, 5
    keys = [8 * one + dim for one in range(3) for dim in head]
    assert stacked.rows.tolist() == keys
    rows = torch.tensor(keys + list(range(24, 48)))
    wanted = case.statistics.fisher[rows][:, rows]
    ratio = OUTPUT["fisher"](stacked, case.statistics) / wanted
    off = ~torch.eye(len(rows), dtype=torch.bool)
    assert (ratio[off] - ratio[0, 1]).abs().max() < ROUNDING
    assert 0 < float(ratio[0, 1]) <= 1
    assert (ratio.diagonal() > ratio[0, 1]).all()  # the balanced share is on the diagonal


@pytest.mark.parametrize("rank", [4, 10, 25])
def test_biases_for_the_mean_never_make_the_error_larger(rank: int) -> None:
    """methods.md: factors of the centred covariance and b' = b + (W - W') E[x] (LatentLLM, section 3)."""
    case = random_case()  # its inputs have a mean as large as their spread
    recipe = Recipe(layout="pre-rope", factor_input="root-covariance")
    errors = []
    for mean_bias in (False, True):
        chosen = recipe.model_copy(update={"mean_bias": mean_bias})
        plan = case.plan(chosen, keep=rank / 48)
        assert plan.kv_lora_rank == rank
        split, _ = part(
            affine(case.weights.q, None), affine(case.weights.k, None), case.statistics, case.inv_freq, plan,
            chosen,
        )  # fmt: skip
        factoring = Factoring(case.weights, split, case.statistics, plan, chosen)
        tensors, _, _ = factoring.at(plan)
        latent = case.x @ tensors["kv_a_proj_with_mqa.weight"].T
        keys = latent @ tensors["k_b_proj.weight"].T + tensors.get("k_b_proj.bias", torch.zeros(24))
        values = latent @ tensors["v_b_proj.weight"].T
        lost_key, lost_value = case.x @ case.weights.k.T - keys, case.x @ case.weights.v.T - values
        if mean_bias:
            # the constant of the values stands behind W_O, once for every query head of a KV head
            constant = lost_value.mean(dim=0).view(3, -1).repeat_interleave(2, dim=0).flatten()
            assert relative(tensors["o_proj.bias"], case.weights.o @ constant) < 1e-6
            lost_value = lost_value - lost_value.mean(dim=0)
            assert lost_key.mean(dim=0).abs().max() < ROUNDING
        errors.append(float(lost_key.square().sum() + lost_value.square().sum()))
    assert errors[1] < errors[0]


def test_metrics_without_gradients_say_that_they_are_missing() -> None:
    case = random_case()
    stacked = stacked_of(case)
    forward = type(case.statistics)(
        **{name: value for name, value in vars(case.statistics).items() if "fisher" not in name}
    )
    with pytest.raises(ValueError, match="backward pass"):
        OUTPUT["fisher"](stacked, forward)
    with pytest.raises(ValueError, match="backward pass"):
        input_moments(forward, "root-fisher")
