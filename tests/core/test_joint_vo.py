# SPDX-License-Identifier: Apache-2.0
"""Joint VO minimises what the heads lose of their part of the output."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from core.factor.joint_vo import JointVO, Outputs, joint_vo, spectra
from core.factor.local import local_factors
from core.factor.tucker import Effort

HEADS, KV_HEADS, HEAD_DIM, WIDTH, OUT = 4, 2, 4, 10, 9
GROUP = HEADS // KV_HEADS
EXACT = Effort(tolerance=1e-13, sweeps=2000)


def normal(draw: torch.Generator, *size: int) -> Tensor:
    return torch.randn(*size, generator=draw, dtype=torch.float64)


def random_outputs(seed: int = 0, has_bias: bool = False) -> Outputs:
    """Random projections, inputs with a mean and a spectrum, outputs that weigh unequally."""
    draw = torch.Generator().manual_seed(seed)
    x = normal(draw, 200, WIDTH) * torch.logspace(0.5, -1, WIDTH, dtype=torch.float64)
    x = x @ torch.linalg.qr(normal(draw, WIDTH, WIDTH)).Q + normal(draw, WIDTH)
    metric = normal(draw, OUT, 2 * OUT)
    found = Outputs(
        normal(draw, KV_HEADS, HEAD_DIM, WIDTH),
        normal(draw, OUT, HEADS, HEAD_DIM),
        x.T @ x / len(x),
        metric @ metric.T,
    )
    if not has_bias:
        return found
    biases = normal(draw, KV_HEADS, HEAD_DIM), normal(draw, OUT)
    return replace(found, mean=x.mean(dim=0), value_bias=biases[0], output_bias=biases[1])


def error(outputs: Outputs, value: Tensor, output: Tensor) -> Tensor:
    """The objective from its definition, head by head."""
    lost = torch.zeros((), dtype=torch.float64)
    for head in range(HEADS):
        wanted = outputs.output[:, head] @ outputs.value[head // GROUP]
        missed = wanted - output[:, head] @ value[head // GROUP]
        lost = lost + (outputs.output_roots()[0] @ missed @ outputs.input_roots()[0]).square().sum()
    return lost


def shapes(found: JointVO, outputs: Outputs) -> tuple[Tensor, Tensor]:
    """The projections (n_kv, d_h, d) and (n, n_h, d_h) of the result."""
    value = outputs.value if found.value is None else found.value.product().view_as(outputs.value)
    return value, outputs.output if found.output is None else found.output.product().view_as(outputs.output)


def descended(outputs: Outputs, ranks: tuple[int, int], seed: int) -> float:
    """L-BFGS over four free matrices from a random start, those outside behind the roots of the metrics."""
    draw = torch.Generator().manual_seed(seed)
    sizes = (KV_HEADS, HEAD_DIM, ranks[0]), (ranks[0], WIDTH), (OUT, ranks[1]), (HEADS, ranks[1], HEAD_DIM)
    free = [normal(draw, *size).requires_grad_() for size in sizes]
    by_head = outputs.output_roots()[0] @ outputs.output.permute(1, 0, 2)
    wanted = by_head @ (outputs.value @ outputs.input_roots()[0]).repeat_interleave(GROUP, dim=0)
    optimiser = torch.optim.LBFGS(
        free, max_iter=300, tolerance_grad=1e-8, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = (free[0] @ free[1]).repeat_interleave(GROUP, dim=0)
        lost = (wanted - free[2] @ free[3] @ value).square().sum()
        lost.backward()
        return lost

    optimiser.step(closure)
    return float(closure().detach())


def test_no_free_factors_are_better() -> None:
    """The best of six L-BFGS descents over every number of the factors ends where joint VO does."""
    outputs = random_outputs(2)
    found = joint_vo(outputs, 3, 4, EXACT)
    ends = [descended(outputs, (3, 4), seed) for seed in range(6)]
    assert min(ends) >= found.losses[-1] * (1 - 1e-9)
    assert min(ends) == pytest.approx(found.losses[-1], rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_the_error_is_what_it_is_said_to_be_and_stationary(seed: int) -> None:
    outputs = random_outputs(seed)
    found = joint_vo(outputs, 3, 4, EXACT)
    free = [each.clone().requires_grad_() for each in (*(found.value or ()), *(found.output or ()))]
    lost = error(
        outputs, (free[0] @ free[1]).view_as(outputs.value), (free[2] @ free[3]).view_as(outputs.output)
    )
    assert float(lost.detach()) == pytest.approx(found.losses[-1], rel=1e-8)
    lost.backward()
    for each in free:
        assert each.grad is not None
        # alternation stops when a sweep gains 1e-13 of the loss, and a loss is quadratic in what is missing
        assert each.grad.norm() * each.norm() < 1e-5 * found.total
    for before, after in pairwise(found.losses):
        assert after <= before + 1e-10 * found.total


def test_with_the_output_left_whole_it_is_local_in_the_metric_of_the_output() -> None:
    """Then G_g = sum_i W_o,i^T G W_o,i over the heads that read a KV head, and Eckart and Young apply."""
    outputs = random_outputs(1)
    found = joint_vo(outputs, 3, None)
    assert found.output is None
    weighed = outputs.output_roots()[0] @ outputs.output.permute(1, 0, 2)
    metric = (weighed.mT @ weighed).view(KV_HEADS, GROUP, HEAD_DIM, HEAD_DIM).sum(dim=1)
    best = local_factors(outputs.value.flatten(0, 1), outputs.input_roots()[0], torch.block_diag(*metric))
    assert found.losses[0] == pytest.approx(best.tail(3), rel=1e-8)
    values, wholes = spectra(outputs)
    assert float(values[3:].sum()) == pytest.approx(best.tail(3), rel=1e-8)
    assert float(wholes[5:].sum()) == pytest.approx(joint_vo(outputs, None, 5).losses[0], rel=1e-8)


def test_full_rank_is_exact_and_joint_is_never_worse_than_local() -> None:
    outputs = random_outputs(2)
    value, output = shapes(joint_vo(outputs, 8, 9), outputs)
    assert (value - outputs.value).abs().max() < 1e-8
    assert (output - outputs.output).abs().max() < 1e-8
    up, down = local_factors(outputs.value.flatten(0, 1), outputs.input_roots()[0]).at(3)
    # the local factor of W_o that lies in the set joint searches: W_o projected in the metric of the output
    behind = torch.linalg.svd(outputs.output_roots()[0] @ outputs.output.flatten(1)).U[:, :4]
    projection = torch.linalg.inv(outputs.output_roots()[0]) @ behind @ behind.T @ outputs.output_roots()[0]
    local = error(
        outputs,
        (up @ down).view_as(outputs.value),
        (projection @ outputs.output.flatten(1)).view_as(outputs.output),
    )
    assert joint_vo(outputs, 3, 4).losses[-1] < float(local)


def test_the_bias_carries_means_and_value_biases() -> None:
    """At the mean input nothing is lost, whatever the ranks, and values need no bias of their own. By how
    much other inputs are off is the error for inputs without the mean."""
    outputs = random_outputs(3, has_bias=True)
    assert outputs.mean is not None
    assert outputs.value_bias is not None
    assert outputs.output_bias is not None
    found = joint_vo(outputs, 2, 3, EXACT)
    assert found.bias is not None
    value, output = shapes(found, outputs)

    def says(values: Tensor, out: Tensor, bias: Tensor) -> Tensor:
        return torch.einsum("nha,ha->n", out, values.repeat_interleave(GROUP, dim=0)) + bias

    before = says(outputs.value @ outputs.mean + outputs.value_bias, outputs.output, outputs.output_bias)
    after = says(value @ outputs.mean, output, found.bias)
    assert (before - after).abs().max() < 1e-10
    centred = replace(
        outputs,
        covariance=outputs.covariance - torch.outer(outputs.mean, outputs.mean),
        mean=None,
        value_bias=None,
        output_bias=None,
    )
    assert found.losses[-1] == pytest.approx(joint_vo(centred, 2, 3, EXACT).losses[-1], rel=1e-9)
    with pytest.raises(ValueError, match="biases can only be fitted with the mean"):
        joint_vo(replace(outputs, mean=None), 2, 3)
