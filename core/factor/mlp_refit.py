# SPDX-License-Identifier: Apache-2.0
"""Refit a factored MLP through its nonlinearity: no training, least squares only, never worse on held text.

Two steps take turns, and each is kept only when the error of the output on held tokens falls:

- W_d by reduced-rank regression from z' = act(..) of the factored readers to the original's outputs y;
- the outer matrices U_u and U_g of the readers, whose inner ones stay. The output is linear in U_u, and in
  U_g to first order (Gauss-Newton), with m * r unknowns: normal equations nobody can store. Conjugate
  gradients need a product with them only, which is one pass over the tokens and costs about as much as the
  MLP. The moments of the latents and the mean curvature of each hidden channel, whose Kronecker product is
  near the normal equations (as in K-FAC), make few passes do. SparseLLM (arXiv 2402.17946) introduces the
  hidden activations as auxiliary variables instead; here the error of the output itself is minimised.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from core.factor.mlp import MLP, Batches, Linear, streamed
from core.factor.reduced_rank import reduced_rank

WORK = torch.float64
# a step is tried whole and then shorter
_LENGTHS = (1.0, 0.5, 0.25)
Change = dict[str, Tensor]


@dataclass(frozen=True)
class RefitEffort:
    """sweeps over both steps, `passes` of conjugate gradients in each, and what holds the weights in place.

    ridge is relative to the mean curvature: towards the original W_d, and towards the outer matrices a step
    starts from. A sweep that takes less than `tolerance` of the error away is the last.
    """

    sweeps: int = 2
    passes: int = 8
    ridge: float = 0.01
    tolerance: float = 1e-3


DEFAULT_EFFORT = RefitEffort()


@dataclass(frozen=True)
class Refitted:
    """errors: E|y - y'|^2 / E|y|^2 on held tokens before and after every step that was kept, falling."""

    mlp: MLP
    errors: tuple[float, ...]

    @property
    def before(self) -> float:
        """The error at the start."""
        return self.errors[0]

    @property
    def after(self) -> float:
        """The error at the end."""
        return self.errors[-1]


@torch.no_grad()
def refit_mlp(
    original: MLP, start: MLP, batches: Batches, held: Batches, effort: RefitEffort = DEFAULT_EFFORT
) -> Refitted:
    """`start`, the factored form of `original`, moved towards its outputs on `batches`.

    Readers that are whole stay as they are; a W_d that is whole is fitted too. `held` decides what is kept:
    other tokens than those of `batches`. Everything is computed in the dtype of the weights, sums in float64.
    """
    mlp, errors = start, [relative_error(original, start, held)]
    for _ in range(effort.sweeps):
        first = errors[-1]
        for candidates in (_with_down, _with_readers):
            for candidate in candidates(original, mlp, batches, effort):
                error = relative_error(original, candidate, held)
                if error < errors[-1]:
                    mlp = candidate
                    errors.append(error)
                    break
        if first - errors[-1] <= effort.tolerance * first:
            break
    return Refitted(mlp, tuple(errors))


@torch.no_grad()
def relative_error(original: MLP, mlp: MLP, batches: Batches) -> float:
    """E|y - y'|^2 / E|y|^2."""
    missed = said = 0.0
    for x in streamed(original, batches):
        wanted = original.apply(x)
        missed += float((wanted - mlp.apply(x)).to(WORK).square().sum())
        said += float(wanted.to(WORK).square().sum())
    return missed / said


def _with_down(original: MLP, mlp: MLP, batches: Batches, effort: RefitEffort) -> Iterator[MLP]:
    """W_d (and its bias) from regression on the hidden activations there are now."""
    square, cross, hidden, said = (torch.zeros(()) for _ in range(4))
    tokens = 0
    for x in streamed(original, batches):
        z, y = mlp.hidden(x), original.apply(x)
        sums = (z.T @ z).to(WORK), (z.T @ y).to(WORK), z.sum(dim=0).to(WORK), y.sum(dim=0).to(WORK)
        square, cross, hidden, said = (
            new + old.to(x.device) for new, old in zip(sums, (square, cross, hidden, said), strict=True)
        )
        tokens += len(x)
    square, cross, hidden, said = (total / tokens for total in (square, cross, hidden, said))
    down, whole = mlp.down, original.down.product()
    if down.bias is not None:
        square, cross = square - torch.outer(hidden, hidden), cross - torch.outer(hidden, said)
    rank = min(whole.shape) if down.down is None else len(down.down)
    up, inner = reduced_rank(square, cross, None, rank, effort.ridge, whole)
    bias = None if down.bias is None else (said - up @ (inner @ hidden)).to(down.up)
    if down.down is None:
        fitted = Linear((up @ inner).to(down.up), None, bias)
    else:
        fitted = Linear(up.to(down.up), inner.to(down.up), bias)
    yield replace(mlp, down=fitted)


def _with_readers(original: MLP, mlp: MLP, batches: Batches, effort: RefitEffort) -> Iterator[MLP]:
    """The outer matrices of all factored readers, moved together; shorter and shorter steps."""
    if all(reader.down is None for reader in mlp.readers.values()):
        return
    change = _Normal(original, mlp, batches, effort.ridge).solved(effort.passes)
    for length in _LENGTHS:
        moved = {}
        for name, by in change.items():
            reader = mlp.readers[name]
            width = reader.up.shape[1]
            bias = None if reader.bias is None else reader.bias + length * by[:, width].to(reader.bias)
            moved[name] = replace(reader, up=reader.up + length * by[:, :width].to(reader.up), bias=bias)
        yield mlp.with_readers(moved)


@dataclass(frozen=True)
class _Scale:
    """Coordinates in which the curvature of one reader is about the identity."""

    rows: Tensor
    codes: Tensor

    def back(self, change: Tensor) -> Tensor:
        """From these coordinates to those of the weights."""
        return self.rows[:, None] * change @ self.codes


class _Normal:
    """The normal equations of the readers' outer matrices, by their product with a change.

    A change is (m, r) or, where there is a bias, (m, r + 1) for each factored reader: its output moves the
    output of the MLP by W_d (s * change c), with c the latent (and a one).
    """

    def __init__(self, original: MLP, mlp: MLP, batches: Batches, ridge: float) -> None:
        self._original, self._mlp, self._batches, self._ridge = original, mlp, batches, ridge
        self._readers = {name: one for name, one in mlp.readers.items() if one.down is not None}
        self._tokens = 0
        self._scales = self._scaled()

    def solved(self, passes: int) -> Change:
        """What least squares would change, after `passes` steps of conjugate gradients from no change."""
        left = self._gradient()
        found = {name: torch.zeros_like(one) for name, one in left.items()}
        step, size = left, _product(left, left)
        for _ in range(passes):
            if size == 0:
                break
            bent = self._curved(step)
            length = size / _product(step, bent)
            found = _sum(found, length, step)
            left = _sum(left, -length, bent)
            size, before = _product(left, left), size
            step = _sum(left, size / before, step)
        return {name: self._scales[name].back(one) for name, one in found.items()}

    def _scaled(self) -> dict[str, _Scale]:
        """From one pass: the latents' moments, and for each channel E[s^2] |w_d|^2."""
        codes: Change = {}
        slopes: Change = {}
        for x in streamed(self._original, self._batches):
            self._tokens += len(x)
            all_slopes = self._mlp.slopes(x)
            for name, reader in self._readers.items():
                code = _code(reader, x)
                moments, squares = (code.T @ code).to(WORK), all_slopes[name].square().sum(dim=0).to(WORK)
                codes[name] = moments + codes[name] if name in codes else moments
                slopes[name] = squares + slopes[name] if name in slopes else squares
        behind = self._mlp.down.product().to(WORK).square().sum(dim=0)
        return {name: self._scale(codes[name], slopes[name] * behind) for name in codes}

    def _scale(self, moments: Tensor, curvature: Tensor) -> _Scale:
        values, vectors = torch.linalg.eigh(moments / self._tokens)
        # directions in which the latent never varies, and channels nobody hears, stay as they are
        codes = (vectors * _inverse_root(values)).T
        return _Scale(_inverse_root(curvature / self._tokens), codes)

    def _parts(self, x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Scaled (slope (tokens, m), latent (tokens, r)) of each reader."""
        slopes = self._mlp.slopes(x)
        return {
            name: (slopes[name] * scale.rows.to(x), _code(self._readers[name], x) @ scale.codes.T.to(x))
            for name, scale in self._scales.items()
        }

    def _gradient(self) -> Change:
        """Minus half the gradient at no change."""
        total: Change = {}
        for x in streamed(self._original, self._batches):
            missed = self._original.apply(x) - self._mlp.apply(x)
            self._add(total, missed, self._parts(x))
        return {name: one / self._tokens for name, one in total.items()}

    def _curved(self, change: Change) -> Change:
        """The normal matrix times a change."""
        total: Change = {}
        for x in streamed(self._original, self._batches):
            parts = self._parts(x)
            moved = sum(slope * (code @ change[name].T.to(x)) for name, (slope, code) in parts.items())
            assert isinstance(moved, Tensor)
            self._add(total, self._mlp.down.linear(moved), parts)
        return {name: one / self._tokens + self._ridge * change[name] for name, one in total.items()}

    def _add(self, total: Change, missed: Tensor, parts: dict[str, tuple[Tensor, Tensor]]) -> None:
        hidden = self._mlp.down.back(missed)
        for name, (slope, code) in parts.items():
            product = ((slope * hidden).T @ code).to(WORK)
            total[name] = product + total[name] if name in total else product


def _code(reader: Linear, x: Tensor) -> Tensor:
    """The latent, and a one where the reader has a bias."""
    code = reader.code(x)
    return code if reader.bias is None else torch.cat([code, torch.ones_like(code[:, :1])], dim=1)


def _inverse_root(values: Tensor) -> Tensor:
    """1 / sqrt, and zero where there is nothing."""
    is_there = values > 1e-12 * values.max()
    return torch.where(is_there, values.clamp_min(torch.finfo(WORK).tiny).rsqrt(), torch.zeros_like(values))


def _product(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    return sum(float((one[name] * other[name]).sum()) for name in one)


def _sum(one: Mapping[str, Tensor], factor: float, other: Mapping[str, Tensor]) -> Change:
    return {name: one[name] + factor * other[name] for name in one}
