# SPDX-License-Identifier: Apache-2.0
"""What the heatmap of rotary pairs shows of a model, and which of them the rule of a recipe keeps."""

from collections.abc import Sequence

import numpy as np

from core.rope.choices import CHOICES, shared_rows
from core.rope.folding import fold_starts
from core.spec import Recipe
from core.widths import PRE_ROPE

Rows = tuple[tuple[float, ...], ...]


def meaning_of_scores(recipe: Recipe) -> str:
    """What the scores of rotary pairs are: see app/ui/plots/rope_meaning.py, which puts it in words."""
    if recipe.layout == PRE_ROPE:
        return "exact"
    if recipe.rope_mix != "none":
        return "components"
    return "energy" if recipe.rope_select == "logit-damage" else "contribution"


def rule_pairs(recipe: Recipe, scores: Rows, inv_freq: Sequence[float], rope_dim: int) -> list[list[int]]:
    """The pairs of one layer that the rule keeps beside `rope_dim` dims per rope key, a list for each row.

    scores (rows, d_h/2) are what the engine chose by, rounded: pairs that differ by less than that may swap.
    """
    if recipe.layout == PRE_ROPE or not inv_freq:
        return [[] for _ in scores]
    found, kept, start = np.array(scores), rope_dim // 2, recipe.rope_select_start
    if recipe.rope_mix == "none":
        chosen: list[list[int]] = CHOICES[recipe.rope_select](found, kept, start).tolist()
        return chosen
    folds = fold_starts(inv_freq, recipe.freqfold, kept, len(scores))
    return shared_rows(found, folds, recipe.rope_select, kept, start)
