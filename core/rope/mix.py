# SPDX-License-Identifier: Apache-2.0
"""rope.mix: a basis across KV heads, and across neighbouring frequencies, in which few rotary pairs matter.

Mixing the KV heads of one frequency by any invertible complex matrix commutes with RoPE, so it changes no
score (methods: k' = A k, q' = A^{-H} q). Neighbouring frequencies may be folded into one (FreqFold, TransMLA,
arXiv 2502.07864, section 4.3): their pairs are mixed as if they turned alike, which is an error that grows
with the distance but leaves fewer pairs that matter.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.rope.folding import graded_starts

WORK = torch.float64
# relative floor of the query energies, so that a head that ignores a frequency can be divided by
_FLOOR = 1e-9


@dataclass(frozen=True)
class PairMoments:
    """What a basis is built from, per rotary pair of one layer.

    keys     complex (d_h/2 * n_kv, d_h/2 * n_kv): E[k k^H], pair-major: frequency f, then KV head
    rotation (d_h/2, n_kv): logit energy per unit of key energy that the rotation carries (core/rope/pairs.py)
    inv_freq (d_h/2)
    """

    keys: Tensor
    rotation: Tensor
    inv_freq: Tensor

    @property
    def kv_heads(self) -> int:
        """KV heads a pair is mixed over."""
        return self.rotation.shape[1]

    def block(self, first: int, last: int) -> Tensor:
        """E[k k^H] of the pairs first..last-1, all KV heads."""
        part = slice(first * self.kv_heads, last * self.kv_heads)
        return self.keys[part, part]


@dataclass(frozen=True)
class Fold:
    """Components of the pairs first..last-1, most important first; n = (last - first) * n_kv of them.

    encode (n, n): component j of a key is beta_j = encode[j] . k;  read (n, n): k = sum_j beta_j read[:, j]
    damage (n): logit energy lost when component j stops rotating
    inv_freq (n): the frequency it turns at, the mean of its frequencies weighted by their damage
    """

    first: int
    last: int
    encode: Tensor
    read: Tensor
    damage: Tensor
    inv_freq: Tensor


Rotation = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def real_orthogonal(keys: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
    """RoRoPE (TransMLA, section 4.2): eigenvectors of Re E[k k^H], the same for real and imaginary parts."""
    del rotation
    vectors = torch.linalg.eigh(keys.real).eigenvectors.flip(-1).to(keys.dtype)
    return vectors.mH, vectors


def complex_weighted(keys: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvectors of D^{1/2} E[k k^H] D^{1/2}, D the logit energy the rotation carries.

    The best rank-j approximation of the rotating logits for independent queries and keys; eigenvalues are
    logit energies, so components of different frequencies compare.
    """
    root = (rotation + _FLOOR * rotation.mean() + torch.finfo(WORK).tiny).sqrt().to(keys.dtype)
    vectors = torch.linalg.eigh(root[:, None] * keys * root[None]).eigenvectors.flip(-1)
    return vectors.mH * root[None], vectors / root[:, None]


MIX: Mapping[str, Rotation] = {"roro": real_orthogonal, "complex": complex_weighted}


def fold(moments: PairMoments, first: int, last: int, mix: str) -> Fold:
    """The components of neighbouring pairs first..last-1 under one mixing."""
    keys, rotation = moments.block(first, last), moments.rotation[first:last].flatten()
    encode, read = MIX[mix](keys, rotation)
    energy = ((encode @ keys) * encode.conj()).sum(dim=1).real.clamp_min(0)
    # (frequencies, components): the share of a component's damage that each frequency has
    parts = (rotation[:, None] * read.abs().square()).view(last - first, moments.kv_heads, -1).sum(dim=1)
    damage = energy * parts.sum(dim=0)
    # a component that no rotation matters to turns at the plain mean, not at zero
    parts = parts + torch.finfo(WORK).tiny
    shares = parts / parts.sum(dim=0, keepdim=True)
    own = moments.inv_freq[first:last].to(shares)
    common = (shares * own[:, None]).sum(dim=0)
    return Fold(first, last, encode, read, damage, common)


def folds_at(moments: PairMoments, starts: Sequence[int], mix: str) -> list[Fold]:
    """One fold from each start to the next (core/rope/folding.py).

    On the demo, 8 shared pairs and full rank: perplexity x1.10 with graded folds, with 2 neighbours
    everywhere x1.21, with 3 x1.17, with 4 x1.35, without folding x2.06.
    """
    ends = [*starts[1:], len(moments.inv_freq)]
    return [fold(moments, first, end, mix) for first, end in zip(starts, ends, strict=True)]


def fixed_folds(moments: PairMoments, mix: str, size: int) -> list[Fold]:
    """FreqFold with `size` neighbours everywhere; the last fold takes what is left."""
    return folds_at(moments, range(0, len(moments.inv_freq), size), mix)


def graded_folds(moments: PairMoments, mix: str) -> list[Fold]:
    """FreqFold with folds that widen as pairs turn more slowly."""
    return folds_at(moments, graded_starts(moments.inv_freq.tolist()), mix)
