# SPDX-License-Identifier: Apache-2.0
"""Joint QK: latents for queries and keys chosen for the attention scores, not for queries and keys alone.

LatentLLM, arXiv 2505.18413, joint tensor compression (its text was not at hand; derived and tested here). The
score of query x_t and key x_s at D = t - s is x_t^T W_q,i^T R_D W_k,g(i) x_s. With x_t and x_s independent,
each of covariance C, the weighted squared error of all scores is

    sum_i sum_D p_i(D) || C^{1/2} (W_q,i^T R_D W_k,g - W'_q,i^T R_D W'_k,g) C^{1/2} ||_F^2,

p_i(D) the attention mass of head i at distance D. It is minimised exactly over W'_q,i = B_q,i A_q and
W'_k,g = B_k,g A_k with A_q (r_q, d) and A_k (r_k, d) shared by the heads and RoPE applied to B A x, as a
model does: for given row spaces the best B is the restriction of W (core/factor/tucker.py), and the spaces
are found there. With r_q None queries stay whole and one eigenproblem gives the optimum (as in KQ-SVD).

With a mean mu of the inputs, queries and keys get biases b' = b + (W - W') mu: x = [x - mu; 1] is what
augmenting x with a one comes to, and the direction of the one is kept beside the latents, so biases of the
original survive exactly and what the mean says costs no rank.

On the demo, 20 % fewer parameters in W_q and W_k of four layers, unseen text: the error of the logits,
weighted by attention, is 0.03 to 0.12 % of their square where local factors of the same ranks leave 0.15 to
3.4 %, and the KL divergence of attention is 2 to 18 times smaller.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from core.factor.junction import Dense
from core.factor.local import normalised
from core.factor.metrics import roots
from core.factor.rotary_average import RotaryAverage
from core.factor.tucker import DEFAULT_EFFORT, Effort, Forms, alternate

WORK = torch.float64


@dataclass(frozen=True)
class Scores:
    """What the scores of one layer are made of.

    query (n_h, d_h, d), key (n_kv, d_h, d): the projections by head; covariance (d, d): E[x x^T], not
    centred, damped if need be; mass (n_h, window) or (window): weight of the offsets 0, 1, …; inv_freq (h/2)
    of the first h <= d_h channels, or None without RoPE. mean (d): with it biases are fitted; query_bias
    (n_h, d_h) and key_bias (n_kv, d_h) are the original's, if it has any.
    """

    query: Tensor
    key: Tensor
    covariance: Tensor
    mass: Tensor
    inv_freq: Tensor | None = None
    mean: Tensor | None = None
    query_bias: Tensor | None = None
    key_bias: Tensor | None = None

    def roots(self) -> tuple[Tensor, Tensor]:
        """C^{1/2} and its inverse, of the centred covariance when there is a mean."""
        covariance = self.covariance.to(WORK)
        return roots(covariance if self.mean is None else covariance - torch.outer(self.mean, self.mean))

    def forms(self, inputs: Tensor) -> Forms:
        """The bilinear forms between whitened inputs, inputs = C^{1/2}."""
        average = RotaryAverage(self.inv_freq, self.mass, self.query.shape[1])
        forms = Forms(self.query.to(WORK) @ inputs, self.key.to(WORK) @ inputs, average)
        if self.mean is None:
            return forms
        return replace(
            forms,
            left_known=_mean_of(self.query, self.mean, self.query_bias),
            right_known=_mean_of(self.key, self.mean, self.key_bias),
        )


@dataclass(frozen=True)
class JointQK:
    """q = query.up @ (query.down @ x) + query_bias, keys likewise; heads stacked in `up` (n * d_h, r).

    query or key is None where the side was left whole; biases are None without a mean. losses: the error of
    the scores after the start and every sweep; total: what there is to lose, so losses[-1] / total is the
    relative squared error.
    """

    query: Dense | None
    key: Dense | None
    query_bias: Tensor | None
    key_bias: Tensor | None
    losses: tuple[float, ...]
    total: float


def joint_qk(
    scores: Scores, q_rank: int | None, k_rank: int | None, effort: Effort = DEFAULT_EFFORT
) -> JointQK:
    """One latent of q_rank for the queries of all heads and one of k_rank for the keys of all heads.

    Ranks reach from 1 to min(d, rows of the projection); None keeps that side as it is. Raises ValueError for
    other ranks, and for a bias without a mean.
    """
    if scores.mean is None and (scores.query_bias is not None or scores.key_bias is not None):
        raise ValueError("biases can only be fitted with the mean of the inputs")
    inputs, inverse = scores.roots()
    found = alternate(scores.forms(inputs), q_rank, k_rank, effort)
    query, key = (
        _factors(weight, inputs, inverse, basis)
        for weight, basis in ((scores.query, found.left), (scores.key, found.right))
    )
    return JointQK(
        query,
        key,
        _bias(scores.query, query, scores.mean, scores.query_bias),
        _bias(scores.key, key, scores.mean, scores.key_bias),
        found.losses,
        found.total,
    )


def split_by_head(scores: Scores, q_rank: int, k_rank: int, effort: Effort = DEFAULT_EFFORT) -> JointQK:
    """The same with latents of its own for every KV head and its queries: q_rank / n_kv and k_rank / n_kv.

    `up` is block diagonal. Raises ValueError when a rank cannot be divided by the KV heads.
    """
    heads = len(scores.key)
    if q_rank % heads or k_rank % heads:
        raise ValueError(f"ranks {q_rank} and {k_rank} are not multiples of {heads} KV heads")
    parts = [joint_qk(_only(scores, head), q_rank // heads, k_rank // heads, effort) for head in range(heads)]
    # a head that is done keeps its loss while others go on
    sweeps_taken = max(len(part.losses) for part in parts)
    losses = (
        sum(part.losses[min(sweep, len(part.losses) - 1)] for part in parts) for sweep in range(sweeps_taken)
    )
    return JointQK(
        _side_by_side([part.query for part in parts]),
        _side_by_side([part.key for part in parts]),
        None if scores.mean is None else torch.cat([_present(part.query_bias) for part in parts]),
        None if scores.mean is None else torch.cat([_present(part.key_bias) for part in parts]),
        tuple(losses),
        sum(part.total for part in parts),
    )


def spectra(scores: Scores) -> tuple[Tensor, Tensor]:
    """What each further rank of the queries (d) and of the keys (d) saves while the other side is whole.

    Falling; the error of r_q and r_k together is at least the larger and at most the sum of the two tails.
    """
    forms = scores.forms(scores.roots()[0])
    moments = forms.left_moment(None), forms.right_moment(None)
    left, right = (torch.linalg.eigvalsh(moment).flip(0).clamp_min(0) for moment in moments)
    return left, right


def _only(scores: Scores, head: int) -> Scores:
    """KV head `head` and the queries it serves."""
    group = len(scores.query) // len(scores.key)
    own, served = slice(head, head + 1), slice(head * group, (head + 1) * group)
    return replace(
        scores,
        query=scores.query[served],
        key=scores.key[own],
        mass=scores.mass[served] if scores.mass.ndim == 2 else scores.mass,
        query_bias=None if scores.query_bias is None else scores.query_bias[served],
        key_bias=None if scores.key_bias is None else scores.key_bias[own],
    )


def _factors(weight: Tensor, inputs: Tensor, inverse: Tensor, basis: Tensor | None) -> Dense | None:
    """W' = W P V V^T P^{-1} for the subspace V (d, r) of the whitened inputs, heads stacked."""
    if basis is None:
        return None
    stacked = weight.to(WORK).flatten(0, 1)
    return Dense(*normalised(stacked @ inputs @ basis, basis.T @ inverse))


def _bias(weight: Tensor, factors: Dense | None, mean: Tensor | None, bias: Tensor | None) -> Tensor | None:
    """b' = b + (W - W') mu, heads stacked."""
    if mean is None:
        return None
    whole = _mean_of(weight, mean, bias).flatten()
    through = weight.to(WORK).flatten(0, 1) if factors is None else factors.product()
    return whole - through @ mean.to(WORK)


def _mean_of(weight: Tensor, mean: Tensor, bias: Tensor | None) -> Tensor:
    """W mu + b by head."""
    found = weight.to(WORK) @ mean.to(WORK)
    return found if bias is None else found + bias.to(WORK)


def _side_by_side(parts: list[Dense | None]) -> Dense:
    """Block-diagonal `up`, `down` stacked."""
    present = [part for part in parts if part is not None]
    return Dense(torch.block_diag(*(part.up for part in present)), torch.cat([part.down for part in present]))


def _present(bias: Tensor | None) -> Tensor:
    assert bias is not None
    return bias
