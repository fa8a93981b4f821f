# SPDX-License-Identifier: Apache-2.0
"""allocate: spread one byte budget over layers, rotary dims and ranks. Each choice gives candidates.

Uniform is always one of them. Which candidate wins is decided by measuring it, see core/trial.py. Everything
is numpy, so that the page can foresee an allocation from a stored profile.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from core.layer_profile import Array, LayerProfile
from core.widths import Widths

# no layer gets less than half or more than twice the uniform rank: the second-order loss that ranks are
# spread by is a local one, and a layer starved by it breaks everything behind it
_NARROWEST, _WIDEST = 0.5, 2.0
_TINY = float(np.finfo(np.float64).tiny)

Candidates = dict[str, list[Widths]]
Ranks = NDArray[np.int64]
# (profiles, what each layer gets when all get the same bytes, rope keys per token) -> candidates by name
Allocate = Callable[[Sequence[LayerProfile], Sequence[Widths], int], Candidates]


def uniform(profiles: Sequence[LayerProfile], widths: Sequence[Widths], groups: int) -> Candidates:
    """Every layer the same."""
    del profiles, groups
    return {"uniform": list(widths)}


def by_energy(profiles: Sequence[LayerProfile], widths: Sequence[Widths], groups: int) -> Candidates:
    """Every layer keeps about the same share of its own energy: the largest relative singular values win."""
    found = _largest(_share(_spectra(profiles, widths)), profiles, widths)
    return {"energy": found} | uniform(profiles, widths, groups)


def by_condition_number(
    profiles: Sequence[LayerProfile], widths: Sequence[Widths], groups: int
) -> Candidates:
    """LoRC (arXiv 2410.03111, section 3.3): errors of early layers pass through all later ones, so ranks
    fall with the product of the condition numbers from a layer to the last: the larger it is, the wider."""
    spectra = [profile.at(one.rope_dim) for profile, one in zip(profiles, widths, strict=True)]
    logs = np.array([0.5 * np.log(_condition(spectrum)) for spectrum in spectra])
    behind = logs[::-1].cumsum()[::-1]
    spread = (behind - behind.min()) / max(float(behind.max() - behind.min()), _TINY)
    wanted = _ranks_of(widths) * (_NARROWEST + (_WIDEST - _NARROWEST) * spread)
    found = _scaled(wanted, widths, min(map(len, spectra)))
    return {"condition-number": found} | uniform(profiles, widths, groups)


def by_loss(profiles: Sequence[LayerProfile], widths: Sequence[Widths], groups: int) -> Candidates:
    """Spend every number where it saves the most predicted loss, over ranks and rotary dims of all layers.

    What a number saves is tempered by which share of its layer's loss that is, because the prediction
    overrates layers with a large loss: at four budgets of the demo the prediction alone was never the best
    (KL 0.22 against 0.20 at keep 0.3125, 0.78 against 0.59 at 0.1875). Where dims rotate, a second candidate
    moves rotary dims between layers as well, by what their rotation carries.
    """
    found = {"loss-aware": _largest(tempered(_spectra(profiles, widths)), profiles, widths)}
    if groups and len(profiles[0].rope_dims) > 1:
        moved = _with_rope_dims(profiles, widths, groups)
        # nothing to try twice when no layer gives rotary dims away
        found |= {"rotary dims too": moved} if moved != found["loss-aware"] else {}
    return found | uniform(profiles, widths, groups)


ALLOCATE: Mapping[str, Allocate] = {
    "uniform": uniform,
    "energy": by_energy,
    "condition-number": by_condition_number,
    "loss-aware": by_loss,
}


def rope_grid(choice: str, widths: Widths, most: int) -> list[int]:
    """Which numbers of rotary dims are worth profiling: around the uniform one, when they may differ."""
    if choice != "loss-aware" or widths.rope_dim < 4:
        return [widths.rope_dim]
    around = {2 * round(widths.rope_dim * factor / 2) for factor in (0.5, 1.0, 1.5)}
    return sorted({widths.rope_dim} | {dims for dims in around if 2 <= dims <= most})


def numbers(widths: Sequence[Widths], groups: int) -> int:
    """Numbers cached per token over all layers."""
    return sum(one.rank + groups * one.rope_dim for one in widths)


def largest_gains(gain: Array, usual: NDArray[np.integer], limits: Ranks, total: int) -> Ranks:
    """Ranks (layers) with `total` numbers in all that take the largest gains (layers, width).

    Each stays between half and twice its `usual` one, and within its limit. Of equal gains the earlier
    layer's is taken, then that of the smaller rank.
    """
    least: Ranks = np.maximum(1, np.ceil(_NARROWEST * usual)).astype(np.int64)
    most = np.maximum(least, np.minimum(limits, np.floor(_WIDEST * usual)).astype(np.int64))
    first, end = int(least.min()), int(most.max())
    column = np.arange(first, min(end, gain.shape[1]))
    is_open = (column >= least[:, None]) & (column < most[:, None])
    spare = min(int(total - least.sum()), int(is_open.sum()))
    if spare <= 0:
        return least
    offered = np.where(is_open, gain[:, first:end], -np.inf)
    # the spare-th largest of all: a selection is ten times as fast as a sort, and takes the same
    price = np.partition(offered, offered.size - spare, axis=None)[offered.size - spare]
    taken = (offered > price).sum(axis=1)
    equal = np.flatnonzero(offered == price)[: spare - int(taken.sum())]
    ranks: Ranks = least + taken + np.bincount(equal // len(column), minlength=len(gain))
    return ranks


def tempered(spectra: Array) -> Array:
    """Geometric mean of a number's loss and of its share in its layer's loss."""
    return np.sqrt(spectra * _share(spectra))


def stacked(spectra: Sequence[Array]) -> Array:
    """(layers, width), shorter ones filled up with zeros."""
    width = max(map(len, spectra))
    if all(len(one) == width for one in spectra):
        return np.array(spectra)
    return np.stack([np.pad(one, (0, width - len(one))) for one in spectra])


def _with_rope_dims(profiles: Sequence[LayerProfile], widths: Sequence[Widths], groups: int) -> list[Widths]:
    """Rotary dims by their share of the logit energy, one multiplier for all layers; ranks tempered after.

    Logit energies of different layers are not the same loss, so a layer's own total is their unit.
    """
    budget = sum(one.rope_dim for one in widths)
    shares = [one.rope_lost / max(float(one.rope_lost[0]), _TINY) for one in profiles]

    def at(price: float) -> list[int]:
        costs = [share + price * np.array(one.rope_dims) for one, share in zip(profiles, shares, strict=True)]
        return [one.rope_dims[int(cost.argmin())] for one, cost in zip(profiles, costs, strict=True)]

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(at(middle)) > budget else (low, middle)
    dims = at(high)
    spectra = [one.at(rope_dim) for one, rope_dim in zip(profiles, dims, strict=True)]
    usual = _ranks_of(widths)
    total = int(usual.sum()) + groups * (budget - sum(dims))
    ranks = largest_gains(tempered(stacked(spectra)), usual, np.array([*map(len, spectra)]), total)
    return [Widths(rope_dim, int(rank)) for rope_dim, rank in zip(dims, ranks, strict=True)]


def _spectra(profiles: Sequence[LayerProfile], widths: Sequence[Widths]) -> Array:
    return stacked([profile.at(one.rope_dim) for profile, one in zip(profiles, widths, strict=True)])


def _ranks_of(widths: Sequence[Widths]) -> Ranks:
    return np.array([one.rank for one in widths], dtype=np.int64)


def _share(spectra: Array) -> Array:
    """Each layer's spectrum (layers, width) in units of its own sum."""
    whole: Array = spectra.sum(axis=1, keepdims=True)
    return spectra / np.maximum(whole, _TINY)


def _condition(spectrum: Array) -> float:
    """Largest over smallest of the singular values that are not zero, squared."""
    real = spectrum[spectrum > 1e-12 * spectrum[0]]
    return float(real[0] / real[-1]) if len(real) else 1.0


def _largest(gain: Array, profiles: Sequence[LayerProfile], widths: Sequence[Widths]) -> list[Widths]:
    usual = _ranks_of(widths)
    limits = np.array([one.spectrum.shape[1] for one in profiles])
    ranks = largest_gains(gain, usual, limits, int(usual.sum()))
    return [replace(one, rank=int(rank)) for one, rank in zip(widths, ranks, strict=True)]


def _scaled(wanted: Array, widths: Sequence[Widths], most: int) -> list[Widths]:
    """Integer ranks in proportion to `wanted` that add up to the uniform budget."""
    usual = _ranks_of(widths)
    total, least = int(usual.sum()), np.maximum(1, np.ceil(_NARROWEST * usual))
    low, high = 0.0, 4.0

    def at(scale: float) -> Ranks:
        found: Ranks = np.minimum(np.maximum(np.floor(wanted * scale), least), most).astype(np.int64)
        return found

    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if int(at(middle).sum()) <= total else (low, middle)
    ranks = at(low)
    # what rounding left goes to the layers that were cut the most
    order = np.argsort(-(wanted * low - ranks), kind="stable")
    for index in order[: max(0, total - int(ranks.sum()))]:
        ranks[index] = min(most, int(ranks[index]) + 1)
    return [replace(one, rank=int(rank)) for one, rank in zip(widths, ranks, strict=True)]
