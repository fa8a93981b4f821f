# SPDX-License-Identifier: Apache-2.0
"""allocate: spread one byte budget over layers, rotary dims and ranks. Each choice gives candidates.

Uniform is always one of them. Which candidate wins is decided by measuring it, see core/trial.py.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from core.profile import LayerProfile
from core.widths import Widths

WORK = torch.float64
# no layer gets less than half or more than twice the uniform rank: the second-order loss that ranks are
# spread by is a local one, and a layer starved by it breaks everything behind it
_NARROWEST, _WIDEST = 0.5, 2.0

Candidates = dict[str, list[Widths]]


def uniform(profiles: Sequence[LayerProfile], widths: Widths, groups: int) -> Candidates:
    """Every layer the same."""
    del groups
    return {"uniform": [widths] * len(profiles)}


def by_energy(profiles: Sequence[LayerProfile], widths: Widths, groups: int) -> Candidates:
    """Every layer keeps about the same share of its own energy: the largest relative singular values win."""
    spectra = torch.stack([_spectrum(one, widths) for one in profiles])
    return {"energy": _largest(_share(spectra), widths)} | uniform(profiles, widths, groups)


def by_condition_number(profiles: Sequence[LayerProfile], widths: Widths, groups: int) -> Candidates:
    """LoRC (arXiv 2410.03111, section 3.3): errors of early layers pass through all later ones, so ranks
    fall with the product of the condition numbers from a layer to the last: the larger it is, the wider."""
    logs = [0.5 * math.log(_condition(_spectrum(one, widths))) for one in profiles]
    behind = torch.tensor(logs, dtype=WORK).flip(0).cumsum(0).flip(0)
    spread = (behind - behind.min()) / (behind.max() - behind.min()).clamp_min(torch.finfo(WORK).tiny)
    wanted = widths.rank * (_NARROWEST + (_WIDEST - _NARROWEST) * spread)
    most = min(len(_spectrum(one, widths)) for one in profiles)
    return {"condition-number": _scaled(wanted, widths, most)} | uniform(profiles, widths, groups)


def by_loss(profiles: Sequence[LayerProfile], widths: Widths, groups: int) -> Candidates:
    """Spend every number where it saves the most predicted loss, over ranks and rotary dims of all layers.

    What a number saves is tempered by which share of its layer's loss that is, because the prediction
    overrates layers with a large loss: at four budgets of the demo the prediction alone was never the best
    (KL 0.22 against 0.20 at keep 0.3125, 0.78 against 0.59 at 0.1875). Where dims rotate, a second candidate
    moves rotary dims between layers as well, by what their rotation carries.
    """
    spectra = torch.stack([_spectrum(one, widths) for one in profiles])
    found = {"loss-aware": _largest(_tempered(spectra), widths)}
    if groups and len(profiles[0].rope_dims) > 1:
        moved = _with_rope_dims(profiles, widths, groups)
        # nothing to try twice when no layer gives rotary dims away
        found |= {"rotary dims too": moved} if moved != found["loss-aware"] else {}
    return found | uniform(profiles, widths, groups)


ALLOCATE: Mapping[str, Callable[[Sequence[LayerProfile], Widths, int], Candidates]] = {
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


def _with_rope_dims(profiles: Sequence[LayerProfile], widths: Widths, groups: int) -> list[Widths]:
    """Rotary dims by their share of the logit energy, one multiplier for all layers; ranks tempered after.

    Logit energies of different layers are not the same loss, so a layer's own total is their unit.
    """
    budget = widths.rope_dim * len(profiles)
    shares = [one.rope_lost / one.rope_lost[0].clamp_min(torch.finfo(WORK).tiny) for one in profiles]

    def at(price: float) -> list[int]:
        chosen = []
        for one, share in zip(profiles, shares, strict=True):
            cost = share + price * torch.tensor(one.rope_dims, dtype=WORK)
            chosen.append(one.rope_dims[int(cost.argmin())])
        return chosen

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(at(middle)) > budget else (low, middle)
    dims = at(high)
    spectra = torch.stack(
        [one.spectrum[one.rope_dims.index(d)] for one, d in zip(profiles, dims, strict=True)]
    )
    spare = groups * (budget - sum(dims))
    ranks = _ranks(_tempered(spectra), widths.rank, widths.rank * len(dims) + spare)
    return [Widths(d, rank) for d, rank in zip(dims, ranks, strict=True)]


def _spectrum(profile: LayerProfile, widths: Widths) -> Tensor:
    return profile.spectrum[profile.rope_dims.index(widths.rope_dim)]


def _share(spectra: Tensor) -> Tensor:
    """Each layer's spectrum (layers, width) in units of its own sum."""
    return spectra / spectra.sum(dim=1, keepdim=True).clamp_min(torch.finfo(WORK).tiny)


def _tempered(spectra: Tensor) -> Tensor:
    """Geometric mean of a number's loss and of its share in its layer's loss."""
    return (spectra * _share(spectra)).sqrt()


def _condition(spectrum: Tensor) -> float:
    """Largest over smallest of the singular values that are not zero, squared."""
    real = spectrum[spectrum > 1e-12 * spectrum[0]]
    return float(real[0] / real[-1]) if len(real) else 1.0


def _largest(gain: Tensor, widths: Widths) -> list[Widths]:
    ranks = _ranks(gain, widths.rank, widths.rank * len(gain))
    return [replace(widths, rank=rank) for rank in ranks]


def _ranks(gain: Tensor, rank: int, total: int) -> list[int]:
    """Ranks with `total` numbers in all that take the largest gains (layers, width), within the bounds."""
    layers, width = gain.shape
    least = max(1, math.ceil(_NARROWEST * rank))
    most = min(width, math.floor(_WIDEST * rank))
    order = gain[:, least:most].flatten().argsort(descending=True, stable=True)
    spare = min(total - least * layers, len(order))
    chosen = torch.bincount(order[:spare] // max(1, most - least), minlength=layers)
    return [least + int(count) for count in chosen]


def _scaled(wanted: Tensor, widths: Widths, most: int) -> list[Widths]:
    """Integer ranks in proportion to `wanted` that add up to the uniform budget."""
    total = widths.rank * len(wanted)
    low, high = 0.0, 4.0

    def at(scale: float) -> Tensor:
        return (
            (wanted * scale).floor().clamp(max(1, math.ceil(_NARROWEST * widths.rank)), most).to(torch.int64)
        )

    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if int(at(middle).sum()) <= total else (low, middle)
    ranks = at(low)
    # what rounding left goes to the layers that were cut the most
    order = (wanted * low - ranks).argsort(descending=True, stable=True)
    for index in order[: total - int(ranks.sum())]:
        ranks[index] = min(most, int(ranks[index]) + 1)
    return [replace(widths, rank=int(rank)) for rank in ranks]
