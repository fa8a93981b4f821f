# SPDX-License-Identifier: Apache-2.0
"""Stored profiles: calibration done once, found again by fingerprint, and what it says of every budget.

A profile folder holds the statistics of every layer, which conversions of the same weights, text and seed
read instead of calibrating, and `profile.json`, from which the loss of any plan follows in milliseconds and
without a tensor library.
"""

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from core.errors import StateError
from core.loss_fit import LossFit
from core.spec import Frozen, JobSpec, Recipe
from core.widths import Widths

FILE = "profile.json"
STATISTICS = "statistics"


class LayerCurves(Frozen):
    """One layer: rope_lost and tail, nats per token before the fit, for each number of rotary dims.

    tail[i][j] is the loss left in a latent of rank RecipeCurves.ranks[j] with rope_dims[i] rotary dims.
    """

    rope_dims: tuple[int, ...]
    rope_lost: tuple[float, ...]
    tail: tuple[tuple[float, ...], ...]


class MeasuredPoint(Frozen):
    """Widths, the same in all layers, that were tried on held-back text, and their KL in nats per token."""

    keep: float
    rope_dim: int
    rank: int
    measured: float


class RecipeCurves(Frozen):
    """What one recipe loses on one model: `fit` of the sum over layers of tails and rope_weight * rope_lost.

    rope_weight and fit are those that miss `points` least.
    """

    recipe: Recipe
    ranks: tuple[int, ...]
    layers: tuple[LayerCurves, ...]
    rope_weight: float
    fit: LossFit
    points: tuple[MeasuredPoint, ...]

    def raw(self, widths: Sequence[Widths]) -> float:
        """The sum that the fit turns into a loss."""
        total = 0.0
        for layer, one in zip(self.layers, widths, strict=True):
            tails = [_between(self.ranks, tail, one.rank) for tail in layer.tail]
            total += _between(layer.rope_dims, tails, one.rope_dim)
            total += self.rope_weight * _between(layer.rope_dims, layer.rope_lost, one.rope_dim)
        return total


class Prediction(Frozen):
    """KL(original || converted) in nats per token, and the range its fit leaves."""

    loss: float
    low: float
    high: float


class Profile(Frozen):
    """`profile.json`: where it came from, and the curves of every recipe it knows."""

    version: Literal[2] = 2
    fingerprint: str
    model: str
    text: str
    tokens: int
    fisher_windows: int = Field(description="windows that went through the backward pass")
    recipes: tuple[RecipeCurves, ...]

    def predict(self, recipe: Recipe, widths: Sequence[Widths]) -> Prediction | None:
        """The loss of `widths`, one per layer; None when this profile says nothing about the recipe."""
        for curves in self.recipes:
            if same_curves(curves.recipe, recipe) and len(widths) == len(curves.layers):
                loss, spread = curves.fit.loss(curves.raw(widths)), curves.fit.spread
                return Prediction(loss=loss, low=loss / spread, high=loss * spread)
        return None


def same_curves(one: Recipe, other: Recipe) -> bool:
    """Curves depend on everything of a recipe but on how the budget is spread."""
    return one.model_copy(update={"allocate": ""}) == other.model_copy(update={"allocate": ""})


def profile_folder(home: Path, fingerprint: str) -> Path:
    """Where the profile of this fingerprint is, or would be."""
    return home / "profiles" / fingerprint[:32]


def find_statistics(home: Path, fingerprint: str, fisher_windows: int) -> Path | None:
    """The statistics of a finished profile that a conversion with `fisher_windows` can read.

    One that is damaged or of another version counts as none: calibrating again is always right.
    """
    folder = profile_folder(home, fingerprint)
    try:
        found = load_profile(folder)
    except StateError:
        return None
    fits = found.fingerprint == fingerprint and fisher_windows in (0, found.fisher_windows)
    return folder / STATISTICS if fits else None


def load_profile(folder: Path) -> Profile:
    """Read `profile.json`; raises StateError when it is not one of this version."""
    try:
        return Profile.model_validate_json((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, ValidationError) as error:
        raise StateError(
            f"'{folder / FILE}' is not a profile of this version", hint="make it again: mla-workbench profile"
        ) from error


def newest_profile(home: Path, model: str) -> Profile | None:
    """The newest finished profile of the model called `model`, whatever text it saw."""
    files = sorted((home / "profiles").glob(f"*/{FILE}"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files:
        try:
            found = load_profile(file.parent)
        except StateError:
            continue  # of an older version: as if it were not there
        if found.model == model:
            return found
    return None


def spec_for_profile(spec: JobSpec) -> JobSpec:
    """The spec that serves every recipe: with all of the backward pass, text held back and text to refit."""
    recipe = Recipe(
        factor_output="fisher", allocate="loss-aware", rope_derotate="expected", refit_output=True
    )
    update: dict[str, Any] = {"recipe": recipe, "evaluation": None, "keep": 1.0}
    return spec.model_copy(update=update | {"rope_dim": None, "kv_rank": None, "preset": None})


def _between(known: Sequence[int], values: Sequence[float], wanted: int) -> float:
    """Linear interpolation of `values` at ascending `known`; flat beyond its ends."""
    right = bisect_right(known, wanted)
    if right == 0 or right == len(known):
        return values[0] if right == 0 else values[-1]
    share = (wanted - known[right - 1]) / (known[right] - known[right - 1])
    return values[right - 1] + share * (values[right] - values[right - 1])
