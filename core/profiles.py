# SPDX-License-Identifier: Apache-2.0
"""Stored profiles: calibration done once, found again by fingerprint, and what it says of every budget.

A profile folder holds the statistics of every layer, which conversions of the same weights, text and seed
read instead of calibrating, and `profile.json`, from which the loss of any plan follows in milliseconds and
without a tensor library.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from core.curves import Pairs, RecipeCurves, same_curves
from core.errors import StateError
from core.pair_scores import Rows
from core.spec import Frozen, JobSpec, Recipe
from core.widths import Widths

FILE = "profile.json"
STATISTICS = "statistics"


class Prediction(Frozen):
    """KL(original || converted) in nats per token, and the range its fit leaves."""

    loss: float
    low: float
    high: float


class Profile(Frozen):
    """`profile.json`: where it came from, and the curves of every recipe it knows."""

    version: Literal[3] = 3
    fingerprint: str
    model: str
    text: str
    tokens: int
    fisher_windows: int = Field(description="windows that went through the backward pass")
    inv_freq: tuple[float, ...] = Field(description="frequencies of the rotary pairs, radians per token")
    contribution: tuple[Rows, ...] = Field(
        description="2-norm contribution E|q| E|k| of each pair: layers x KV heads x pairs"
    )
    recipes: tuple[RecipeCurves, ...]

    def curves(self, recipe: Recipe) -> RecipeCurves | None:
        """The curves of the recipe; None when this profile says nothing about it."""
        return next((one for one in self.recipes if same_curves(one.recipe, recipe)), None)

    def predict(
        self, recipe: Recipe, widths: Sequence[Widths], pairs: Sequence[Pairs] | None = None
    ) -> Prediction | None:
        """The loss of `widths`, one per layer; None when this profile says nothing about the recipe.

        `pairs` are those that keep RoPE in every layer when they are not the rule's.
        """
        curves = self.curves(recipe)
        if curves is None or len(widths) != len(curves.layers):
            return None
        return predicted_loss(curves, curves.raw(widths, pairs))


def predicted_loss(curves: RecipeCurves, raw: float) -> Prediction:
    """What a second-order sum of `raw` loses, and the range that the fit leaves."""
    loss, spread = curves.fit.loss(raw), curves.fit.spread
    return Prediction(loss=loss, low=loss / spread, high=loss * spread)


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
    update: dict[str, Any] = {"kind": "profile", "recipe": recipe, "evaluation": None, "keep": 1.0}
    update |= {"weights_keep": None, "rope_dim": None, "kv_rank": None, "preset": None}
    return spec.model_copy(update=update)
