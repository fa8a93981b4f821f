# SPDX-License-Identifier: Apache-2.0
"""The linear layers of a decoder layer, and what a rank of each costs. Integers only, no torch."""

import math

from pydantic import Field

from core.recipe import IDENTITY_JUNCTION, Frozen, Recipe

# linear layers that are counted among the weights of attention
ATTENTION_PARTS = ("query", "output")
MLP_PARTS = ("gate", "up", "down")


class LinearPlan(Frozen):
    """One linear layer W (out_features, in_features) and how it is stored: whole, or as factors."""

    part: str = Field(description="query, output, gate, up or down")
    path: str = Field(description="where it is inside its decoder layer")
    out_features: int
    in_features: int
    rank: int = Field(0, description="inner width of the factors; 0 leaves the layer whole")
    identity: bool = Field(False, description="the down factor is [I, B] and only B is stored")
    sparse: int = Field(0, description="numbers of the sparse residual beside the factors")
    bits: int = Field(16, description="bits of a number of the factors; 16 stands for the model's dtype")
    bias: bool = Field(False, description="a bias makes up for the mean of what is cut")

    @property
    def whole(self) -> int:
        """Numbers of W."""
        return self.out_features * self.in_features

    @property
    def numbers(self) -> int:
        """Numbers that are stored, and multiply-adds per token; an index of a gather is not one."""
        if not self.rank:
            return self.whole
        factors = self.rank * (self.out_features + self.in_features)
        return factors - (self.rank**2 if self.identity else 0) + self.sparse

    def within(self, numbers: float, recipe: Recipe) -> "LinearPlan":
        """The layer at the largest rank, at least 1, that takes no more than `numbers`; whole if it fits."""
        if numbers >= self.whole:
            return self.at(0, recipe)
        factors = numbers * (1 - recipe.sparse_share)
        is_identity = recipe.junction == IDENTITY_JUNCTION
        return self.at(
            max(1, largest_rank(self.out_features, self.in_features, factors, is_identity)), recipe
        )

    def at(self, rank: int, recipe: Recipe) -> "LinearPlan":
        """The layer at `rank`, with the sparse residual that belongs to it; 0 leaves it whole."""
        if not rank:
            return self.model_copy(
                update={"rank": 0, "sparse": 0, "identity": False, "bits": 16, "bias": False}
            )
        is_identity, share = recipe.junction == IDENTITY_JUNCTION, recipe.sparse_share
        given = {
            "rank": rank,
            "sparse": 0,
            "identity": is_identity,
            "bits": recipe.factor_bits,
            "bias": recipe.mean_bias,
        }
        bare = self.model_copy(update=given)
        return bare.model_copy(update={"sparse": int(bare.numbers * share / (1 - share))})


def largest_rank(out_features: int, in_features: int, numbers: float, is_identity: bool) -> int:
    """The largest r with r (n + d) <= numbers, or r (n + d) - r^2 where one block is an identity."""
    total = out_features + in_features
    if not is_identity:
        return min(int(numbers / total), out_features, in_features)
    # below the smaller side the left-hand side rises with r, and at it, it is n d
    inside = max(0.0, total**2 - 4 * numbers)
    return min(math.floor((total - math.sqrt(inside)) / 2 + 1e-9), out_features, in_features)
