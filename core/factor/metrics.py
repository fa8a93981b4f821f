# SPDX-License-Identifier: Apache-2.0
"""factor.input and factor.output: in which metric the factorisation W ~ U D is best.

The factors minimise ||G^{1/2} (W - U D) P||_F, with P from the inputs (d, d) and G from the outputs (n, n),
W = [W_K; W_V] the stacked (non-rotary) keys and values. P = C^{1/2}, C = E[x x^T], makes it the mean squared
error of the outputs in the metric G (LatentLLM, arXiv 2505.18413, section 3: the root covariance is the
optimal preconditioner; SVD-LLM's Cholesky factor and TransMLA's PCA of the outputs give the same product).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from core.calibrate.layer_statistics import LayerStatistics

WORK = torch.float64
# how much of the plain covariance is blended into the gradient-weighted one, which comes from fewer tokens:
# on the demo with 120 pre-rope numbers 8k gradient tokens gave perplexity x1.39 with 0, x1.30 with 0.3 and
# x1.28 with 0.5; the plain covariance alone gave x1.59
_PLAIN_SHARE = 0.5
# and how much of the balanced metric into the Fisher information; between 0.01 and 0.3 nothing changes
_BALANCED_SHARE = 0.1
# keys that are smaller than this beside the values are what rounding left of keys that all rotate; scaled up
# to the size of the values they took the place of real ones (7 % of the output of an exact conversion)
_FAINTEST = 1e-6


@dataclass(frozen=True)
class Stacked:
    """The two weights that share a latent: key (n_k, d) and value (n_v, d), and where a key row comes from.

    rows (n_k): index of each key row among the original n_kv * d_h. query (n_k, n_k): second moments of the
    queries that meet the keys, summed over the query heads of a KV head; output (n_v, n_v): the same for
    W_O^T W_O.
    """

    key: Tensor
    value: Tensor
    rows: Tensor
    query: Tensor
    output: Tensor

    @property
    def both(self) -> Tensor:
        """[key; value]."""
        return torch.cat([self.key, self.value])


@dataclass(frozen=True)
class InputMoments:
    """Moments of the inputs in one weighting of the tokens: covariance (d, d), mean (d) and E|x| (d)."""

    covariance: Tensor
    mean: Tensor
    l1: Tensor

    def to(self, device: torch.device) -> "InputMoments":
        """The same moments on `device`."""
        return InputMoments(self.covariance.to(device), self.mean.to(device), self.l1.to(device))

    def centred(self) -> "InputMoments":
        """The same without the mean, for a factorisation whose biases take care of it (LatentLLM)."""
        return replace(self, covariance=self.covariance - torch.outer(self.mean, self.mean))

    def damped(self, shrinkage: float) -> "InputMoments":
        """C + lambda I with lambda relative to the mean of the diagonal."""
        floor = shrinkage * self.covariance.diagonal().mean()
        eye = torch.eye(len(self.mean), dtype=WORK, device=self.mean.device)
        return replace(
            self, covariance=self.covariance + floor * eye, l1=self.l1 + shrinkage * self.l1.mean()
        )


def input_moments(statistics: LayerStatistics, choice: str) -> InputMoments:
    """The moments a choice of factor.input looks at.

    root-fisher weights tokens by the squared gradient of the loss at their keys and values. The second-order
    loss of an error E in [W_K; W_V] is E[(g^T E x)^2] / 2, and with the Kronecker factors E[g g^T] and
    E[|g|^2 x x^T] (K-FAC, Martens and Grosse 2015, which leaves the token weights out) it is
    ||F^{1/2} E C_g^{1/2}||^2: few tokens, like the first of a text, carry most of the loss.
    """
    plain = InputMoments(
        statistics.input_covariance.to(WORK), statistics.input_mean.to(WORK), statistics.input_l1.to(WORK)
    )
    if choice != "root-fisher":
        return plain
    if statistics.fisher_input is None or statistics.fisher_mean is None:
        raise ValueError("root-fisher needs the statistics of a backward pass")
    share = _PLAIN_SHARE
    return InputMoments(
        share * plain.covariance + (1 - share) * statistics.fisher_input.to(WORK).mean(dim=0),
        share * plain.mean + (1 - share) * statistics.fisher_mean.to(WORK).mean(dim=0),
        plain.l1,
    )


def identity_input(moments: InputMoments) -> Tensor:
    """P = I: the weights alone (MHA2MLA)."""
    return torch.eye(len(moments.mean), dtype=WORK, device=moments.mean.device)


def diag_hessian(moments: InputMoments) -> Tensor:
    """P = diag[(C + lambda I)^{-1}]^{-1/2}: the saliency of OBS and SparseGPT."""
    return torch.diag(torch.linalg.inv(moments.covariance).diagonal().rsqrt())


def diag_l1(moments: InputMoments) -> Tensor:
    """P = diag(E|x|)^{1/2}: AWQ and ASVD with alpha 1/2."""
    return torch.diag(moments.l1.sqrt())


def diag_l2(moments: InputMoments) -> Tensor:
    """P = diag(C)^{1/2}: Wanda."""
    return torch.diag(moments.covariance.diagonal().sqrt())


def covariance(moments: InputMoments) -> Tensor:
    """P = C + lambda I: CorDA."""
    return moments.covariance


def root_covariance(moments: InputMoments) -> Tensor:
    """P = (C + lambda I)^{1/2}: optimal for the mean squared error of the outputs (LatentLLM)."""
    return root(moments.covariance)


INPUT: Mapping[str, Callable[[InputMoments], Tensor]] = {
    "identity": identity_input,
    "diag-hessian": diag_hessian,
    "diag-l1": diag_l1,
    "diag-l2": diag_l2,
    "covariance": covariance,
    "root-covariance": root_covariance,
    "root-fisher": root_covariance,
}


def squared_input(moments: InputMoments, choice: str) -> Tensor:
    """P P^T (d, d) of a choice of INPUT, without the root where P is one."""
    if choice == "root-covariance":
        return moments.covariance
    made = INPUT[choice](moments)
    return made @ made


def identity_output(stacked: Stacked, statistics: LayerStatistics) -> Tensor:
    """G = I: every channel of keys and values counts the same."""
    del statistics
    return torch.eye(len(stacked.both), dtype=WORK, device=stacked.key.device)


def balanced(stacked: Stacked, statistics: LayerStatistics) -> Tensor:
    """G scales keys down to the mean channel norm of the values (TransMLA's BKV, section 4.4)."""
    moments = statistics.input_covariance.to(stacked.key)
    scale = _mean_norm(stacked.key, moments) / _mean_norm(stacked.value, moments)
    ones = torch.ones(len(stacked.value), dtype=WORK, device=stacked.key.device)
    keys = ones.new_ones(len(stacked.key)) / scale.clamp_min(_FAINTEST).square()
    return torch.diag(torch.cat([keys, ones]))


def attention_aware(stacked: Stacked, statistics: LayerStatistics) -> Tensor:
    """G = blockdiag(sum_h E[q_h q_h^T], sum_h W_O,h^T W_O,h): error of the scores, error behind W_O.

    Each block is scaled so that keys and values weigh as in the balanced metric (LatentLLM, joint QK and VO
    with a free query side; KQ-SVD).
    """
    plain = balanced(stacked, statistics)
    moments, size = statistics.input_covariance.to(stacked.key), len(stacked.key)
    blocks = []
    for own, weight, reference in (
        (stacked.query, stacked.key, plain[:size, :size]),
        (stacked.output, stacked.value, plain[size:, size:]),
    ):
        seen = energy(own, weight, moments).clamp_min(torch.finfo(WORK).tiny)
        blocks.append(own * (energy(reference, weight, moments) / seen))
    metric: Tensor = torch.block_diag(*blocks)
    return metric


def fisher(stacked: Stacked, statistics: LayerStatistics) -> Tensor:
    """G = E[g g^T], g the gradient of the loss at [k; v], shrunk a little towards the balanced metric."""
    found = fisher_block(stacked, statistics)
    plain, moments = balanced(stacked, statistics), statistics.input_covariance.to(stacked.key)
    scale = energy(found, stacked.both, moments) / energy(plain, stacked.both, moments)
    return (1 - _BALANCED_SHARE) * found + _BALANCED_SHARE * scale * plain


def fisher_block(stacked: Stacked, statistics: LayerStatistics) -> Tensor:
    """E[g g^T] at the stacked keys and values: (n_k + n_v, n_k + n_v)."""
    if statistics.fisher is None:
        raise ValueError("fisher needs the statistics of a backward pass")
    values = torch.arange(len(stacked.value), device=stacked.rows.device)
    chosen = torch.cat([stacked.rows, statistics.fisher.shape[0] - len(values) + values])
    return statistics.fisher.to(stacked.key)[chosen[:, None], chosen[None]]


OUTPUT: Mapping[str, Callable[[Stacked, LayerStatistics], Tensor]] = {
    "identity": identity_output,
    "balanced": balanced,
    "attention-aware": attention_aware,
    "fisher": fisher,
}


def weigh_keys(metric: Tensor, keys: int, weight: float) -> Tensor:
    """G (n, n) with squared errors of the first `keys` channels counting `weight` times as much."""
    if weight == 1:
        return metric
    scale = torch.ones(len(metric), dtype=WORK, device=metric.device)
    scale[:keys] = weight**0.5
    return scale[:, None] * metric * scale


def root(matrix: Tensor) -> Tensor:
    """Symmetric square root of a positive semi-definite matrix."""
    return roots(matrix)[0]


def roots(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric square root of a positive semi-definite matrix, and the pseudo-inverse of that root."""
    values, vectors = torch.linalg.eigh(matrix.to(WORK))
    lengths = values.clamp_min(0).sqrt()
    is_there = lengths > len(lengths) * torch.finfo(WORK).eps * lengths.max()
    inverse = torch.where(is_there, 1 / lengths, torch.zeros_like(lengths))
    return (vectors * lengths) @ vectors.T, (vectors * inverse) @ vectors.T


def energy(metric: Tensor, weight: Tensor, moments: Tensor) -> Tensor:
    """E[(W x)^T G (W x)] = tr(G W C W^T)."""
    return ((metric @ weight) * (weight @ moments)).sum()


def _mean_norm(weight: Tensor, moments: Tensor) -> Tensor:
    """Mean over channels of sqrt(E[(w x)^2])."""
    squares = ((weight @ moments) * weight).sum(dim=1).clamp_min(0)
    return squares.sqrt().mean() if len(weight) else weight.new_ones(())
