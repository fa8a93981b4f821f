# SPDX-License-Identifier: Apache-2.0
"""What one recipe loses on one model, as a profile keeps it: curves of every layer, and their fit."""

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from pydantic import Field

from core.layer_profile import Array, LayerProfile
from core.loss_fit import LossFit
from core.pair_scores import Rows
from core.recipe import OF_WEIGHTS, Frozen, Recipe
from core.rope.folding import fold_starts
from core.widths import Widths

# pairs of one layer, a list for each KV head
Pairs = Sequence[Sequence[int]]


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


class PairScores(Frozen):
    """What the recipe chooses rotary pairs by: (layers, rows, d_h/2), in the basis made for `kept` pairs."""

    kept: int
    scores: tuple[Rows, ...]


class RecipeCurves(Frozen):
    """What one recipe loses on one model: `fit` of the sum over layers of tail and rope_weight *
    rope_lost ** rope_power.

    The three are those that miss `points` least. `pairs` is None where every pair rotates.
    """

    recipe: Recipe
    ranks: tuple[int, ...]
    layers: tuple[LayerCurves, ...]
    rope_weight: float
    # profiles of before it was fitted were made with 1
    rope_power: float = 1.0
    fit: LossFit
    points: tuple[MeasuredPoint, ...]
    pairs: PairScores | None = Field(None, description="what rotary pairs are chosen by")

    def raw(self, widths: Sequence[Widths], pairs: Sequence[Pairs] | None = None) -> float:
        """The sum that the fit turns into a loss."""
        return sum(self.raw_layers(widths, pairs))

    def raw_layers(self, widths: Sequence[Widths], pairs: Sequence[Pairs] | None = None) -> list[float]:
        """What each layer adds to the sum; `pairs` are those kept instead of the rule's."""
        found = []
        for index, (layer, one) in enumerate(zip(self.layers, widths, strict=True)):
            low, high, share = _place(layer.rope_dims, one.rope_dim)
            tails = self._tails[index][:, min(one.rank, self.ranks[-1])]
            lost = layer.rope_lost[low] + share * (layer.rope_lost[high] - layer.rope_lost[low])
            if pairs is not None and self.pairs is not None:
                lost = _dropped(self.pairs.scores[index], pairs[index])
            left = tails[low] + share * (tails[high] - tails[low])
            found.append(float(left) + self.rope_weight * lost**self.rope_power)
        return found

    def scores_for(self, kept: int, inv_freq: Sequence[float]) -> tuple[Rows, ...] | None:
        """Scores of every layer when `kept` pairs are shared; None when another basis would be made."""
        if self.pairs is None:
            return None
        if self.recipe.rope_mix == "none":
            return self.pairs.scores
        rows = len(self.pairs.scores[0])
        known, wanted = (
            fold_starts(inv_freq, self.recipe.freqfold, one, rows) for one in (self.pairs.kept, kept)
        )
        return self.pairs.scores if known == wanted else None

    def profiles(self, widths: Sequence[Widths], limits: Sequence[int]) -> list[LayerProfile]:
        """Every layer as an allocation sees it, beside the rotary dims of `widths`, cut at its full rank."""
        return [
            LayerProfile(
                (one.rope_dim,), np.zeros(1), self._spectrum(index, one.rope_dim)[None, : limits[index]]
            )
            for index, one in enumerate(widths)
        ]

    def _spectrum(self, index: int, rope_dim: int) -> Array:
        """What each number of the latent saves; between the stored ranks evenly."""
        tails = self._tails[index]
        low, high, share = _place(self.layers[index].rope_dims, rope_dim)
        tail = tails[low] + share * (tails[high] - tails[low]) if share else tails[low]
        found: Array = np.maximum(0.0, tail[:-1] - tail[1:])
        return found

    @cached_property
    def _tails(self) -> list[Array]:
        """Each layer's tails (rope_dims, width + 1) at every rank."""
        every = np.arange(self.ranks[-1] + 1)
        return [np.stack([np.interp(every, self.ranks, tail) for tail in one.tail]) for one in self.layers]


def same_curves(one: Recipe, other: Recipe) -> bool:
    """Curves depend on everything a recipe says of the cache but on how its budget is spread, and on bits."""
    said, asked = (
        recipe.model_dump(exclude={"allocate", "latent_bits", *OF_WEIGHTS}) for recipe in (one, other)
    )
    return said == asked


def _dropped(scores: Rows, pairs: Pairs) -> float:
    """Logit energy per query of the pairs that are not kept."""
    kept = sum(row[pair] for row, chosen in zip(scores, pairs, strict=True) for pair in chosen)
    return max(0.0, sum(map(sum, scores)) - kept)


def _place(known: Sequence[int], wanted: int) -> tuple[int, int, float]:
    """Where `wanted` lies among ascending `known`: between two places, at a share of the way; flat beyond."""
    right = bisect_right(known, wanted)
    if right == 0 or right == len(known):
        end = max(0, right - 1)
        return end, end, 0.0
    share = (wanted - known[right - 1]) / (known[right] - known[right - 1])
    return right - 1, right, share
