# SPDX-License-Identifier: Apache-2.0
"""Joint VO: latents for values and for the output chosen for what attention adds to the hidden state.

LatentLLM, arXiv 2505.18413, joint tensor compression (its text was not at hand; derived and tested here).
Head i makes W_o,i W_v,g(i) x of an input x it attends to. Over the heads, each on its own, the error is

    sum_i || G^{1/2} (W_o,i W_v,g - W'_o,i W'_v,g) C^{1/2} ||_F^2,

and is minimised exactly over W'_v,g = B_g A_v and W'_o,i = A_o^T B_i, A_v (r_v, d) and A_o (r_o, n) shared by
the heads: these are the forms of joint QK without positions, W_o,i^T in the place of queries.

Heads that attend to the same tokens err together, which this sum over single heads does not see: on the demo
it lost more than W_o factored for E[z z^T] of the real heads (5.6 % of the output at 20 % fewer parameters in
its layer 10, here 7.6 %, or 6.8 % with the covariance of what is attended to). W_o by regression on the heads
z' that factored values give (core/factor/reduced_rank.py) sees it, and lost 4.7 %.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.factor.junction import Dense
from core.factor.local import normalised
from core.factor.metrics import roots
from core.factor.rotary_average import RotaryAverage
from core.factor.tucker import DEFAULT_EFFORT, Effort, Forms, alternate

WORK = torch.float64


@dataclass(frozen=True)
class Outputs:
    """What the output of one attention layer is made of.

    value (n_kv, d_h, d) and output (n, n_h, d_h): the projections by head; covariance (d, d): E[x x^T] of the
    inputs (or of what attention makes of them), not centred; output_weight G (n, n) or None for the identity.
    mean (d): with it a bias is fitted; value_bias (n_kv, d_h) and output_bias (n) are the original's, if any.
    """

    value: Tensor
    output: Tensor
    covariance: Tensor
    output_weight: Tensor | None = None
    mean: Tensor | None = None
    value_bias: Tensor | None = None
    output_bias: Tensor | None = None

    def input_roots(self) -> tuple[Tensor, Tensor]:
        """C^{1/2} and its inverse, of the centred covariance when there is a mean."""
        covariance = self.covariance.to(WORK)
        return roots(covariance if self.mean is None else covariance - torch.outer(self.mean, self.mean))

    def output_roots(self) -> tuple[Tensor, Tensor]:
        """G^{1/2} and its inverse."""
        if self.output_weight is None:
            eye = torch.eye(len(self.output), dtype=WORK, device=self.output.device)
            return eye, eye
        return roots(self.output_weight)


@dataclass(frozen=True)
class JointVO:
    """v = value.up @ (value.down @ x), no bias; y = output.up @ (output.down @ z) + bias, heads stacked in z.

    value.up (n_kv * d_h, r_v), output.down (r_o, n_h * d_h); a side is None where it was left whole; bias (n)
    is None without a mean. losses and total as in core/factor/tucker.py.
    """

    value: Dense | None
    output: Dense | None
    bias: Tensor | None
    losses: tuple[float, ...]
    total: float


def joint_vo(
    outputs: Outputs, v_rank: int | None, o_rank: int | None, effort: Effort = DEFAULT_EFFORT
) -> JointVO:
    """One latent of v_rank for the values of all heads and one of o_rank for the output of all heads.

    None keeps a side as it is. Attention averages its values with weights that sum to one, so whatever the
    mean of the inputs and the value bias add is a constant, and goes to `bias`. Raises ValueError for ranks
    that do not exist and for biases without a mean.
    """
    if outputs.mean is None and (outputs.value_bias is not None or outputs.output_bias is not None):
        raise ValueError("biases can only be fitted with the mean of the inputs")
    (inputs, input_inverse), (metric, metric_inverse) = outputs.input_roots(), outputs.output_roots()
    found = alternate(_forms(outputs, inputs, metric), o_rank, v_rank, effort)
    value, output = None, None
    if found.right is not None:
        up = outputs.value.to(WORK).flatten(0, 1) @ inputs @ found.right
        value = Dense(*normalised(up, found.right.T @ input_inverse))
    if found.left is not None:
        down = found.left.T @ metric @ outputs.output.to(WORK).flatten(1)
        output = Dense(*normalised(metric_inverse @ found.left, down))
    return JointVO(value, output, _bias(outputs, value, output), found.losses, found.total)


def spectra(outputs: Outputs) -> tuple[Tensor, Tensor]:
    """What each further rank of the values (d) and of the output (n) saves while the other side is whole."""
    forms = _forms(outputs, outputs.input_roots()[0], outputs.output_roots()[0])
    moments = forms.right_moment(None), forms.left_moment(None)
    values, output = (torch.linalg.eigvalsh(moment).flip(0).clamp_min(0) for moment in moments)
    return values, output


def _forms(outputs: Outputs, inputs: Tensor, metric: Tensor) -> Forms:
    """Left W_o,i^T G^{1/2} (n_h, d_h, n) and right W_v,g C^{1/2} (n_kv, d_h, d)."""
    left = (metric @ outputs.output.to(WORK).permute(1, 0, 2)).mT
    once = RotaryAverage(None, torch.ones(1, dtype=WORK, device=left.device), left.shape[1])
    return Forms(left, outputs.value.to(WORK) @ inputs, once)


def _bias(outputs: Outputs, value: Dense | None, output: Dense | None) -> Tensor | None:
    """b' = b_o + W_o (W_v mu + b_v) - W'_o W'_v mu, each query head reading its KV head."""
    if outputs.mean is None:
        return None
    mean, group = outputs.mean.to(WORK), outputs.output.shape[1] // len(outputs.value)
    stacked = outputs.output.to(WORK).flatten(1)
    before = outputs.value.to(WORK) @ mean
    after = before if value is None else (value.product() @ mean).view_as(before)
    if outputs.value_bias is not None:
        before = before + outputs.value_bias.to(WORK)
    says, said = (each.repeat_interleave(group, dim=0).flatten() for each in (after, before))
    found = stacked @ said - (stacked if output is None else output.product()) @ says
    return found if outputs.output_bias is None else found + outputs.output_bias.to(WORK)
