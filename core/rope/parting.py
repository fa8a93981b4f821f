# SPDX-License-Identifier: Apache-2.0
"""The rope stages of one layer together: mix, select, derotate -> RopeSplit."""

import torch
from torch import Tensor

from core.calibrate.layer_statistics import LayerStatistics
from core.modeling import PRE_ROPE
from core.planning import LayerPlan
from core.rope.derotate import DEROTATE
from core.rope.folding import fold_starts
from core.rope.mix import Fold, PairMoments, folds_at
from core.rope.moments import cross_pair_moments, pair_moments
from core.rope.pairs import rotation_energy
from core.rope.select import SELECT, chosen_slots, shared_pairs
from core.rope.split import RopeSplit, by_head, shared, unrotated
from core.spec import Recipe


def part(
    query: Tensor,
    key: Tensor,
    statistics: LayerStatistics,
    inv_freq: Tensor,
    plan: LayerPlan,
    recipe: Recipe,
) -> tuple[RopeSplit, Tensor]:
    """(split, scores): scores (rows, pairs) are what the choice of pairs went by, or could have gone by.

    Pairs are the first of d_h/2, up to the first that does not turn (core/weights/projections.py).
    query (n_h * d_h, d + 1) and key (n_kv * d_h, d + 1): weights with the bias as last column. Pairs that
    `plan` names are kept whatever the scores say.
    """
    kv_heads = statistics.contribution.shape[0]
    pairs = int(inv_freq.count_nonzero())
    if plan.layout == PRE_ROPE:
        return unrotated(query, key, inv_freq, kv_heads), statistics.contribution[:, :pairs]
    if not pairs:
        nothing = torch.zeros(kv_heads, 0, dtype=torch.int64)
        return by_head(query, key, nothing, inv_freq.cpu()), statistics.contribution[:, :0]
    replaced = DEROTATE[recipe.rope_derotate](query, statistics)
    kept = plan.qk_rope_head_dim // 2
    if recipe.rope_mix != "none":
        folds = folds_of(query, key, statistics, inv_freq, kept, recipe)
        slots = (
            shared_pairs(folds, recipe.rope_select, kept, recipe.rope_select_start, inv_freq[:pairs])
            if plan.kept_pairs is None
            else chosen_slots(folds, plan.kept_pairs)
        )
        return shared(query, replaced, key, slots, kv_heads), _scores(folds, kv_heads)
    scores = statistics.contribution
    if recipe.rope_select == "logit-damage":
        rotation = rotation_of(query, statistics, inv_freq, kv_heads, recipe)
        scores = (rotation * energies_of(key, statistics, kv_heads)).T
    scores = scores[:, :pairs]
    chosen = (
        SELECT[recipe.rope_select](scores, kept, recipe.rope_select_start)
        if plan.kept_pairs is None
        else torch.tensor(plan.kept_pairs, dtype=torch.int64)
    )
    split = by_head(replaced, key, chosen.cpu(), inv_freq.cpu())
    if recipe.rope_derotate == "identity":
        return split, scores
    # only what stops rotating meets the constants
    exact = by_head(query, key, chosen.cpu(), inv_freq.cpu())
    return RopeSplit(**{**vars(exact), "query_nope": split.query_nope}), scores


def folds_of(
    query: Tensor, key: Tensor, statistics: LayerStatistics, inv_freq: Tensor, kept: int, recipe: Recipe
) -> list[Fold]:
    """The mixed basis of one layer for `kept` shared rotary pairs."""
    kv_heads = statistics.contribution.shape[0]
    rotation = rotation_of(query, statistics, inv_freq, kv_heads, recipe)
    keys = cross_pair_moments(key, augmented(statistics), kv_heads)
    pairs = int(inv_freq.count_nonzero())
    mixed, turning = pairs * kv_heads, inv_freq[:pairs]
    moments = PairMoments(keys[:mixed, :mixed], rotation[:pairs], turning)
    return folds_at(moments, fold_starts(turning.tolist(), recipe.freqfold, kept, kv_heads), recipe.rope_mix)


def rotation_of(
    query: Tensor, statistics: LayerStatistics, inv_freq: Tensor, kv_heads: int, recipe: Recipe
) -> Tensor:
    """(d_h/2, n_kv): see `rotation_energy`."""
    heads = statistics.attention_mass.shape[0]
    energy = energies_of(query, statistics, heads)
    fitted = recipe.rope_derotate != "identity"
    return rotation_energy(energy.T, statistics.attention_mass, inv_freq, kv_heads, fitted)


def energies_of(rows: Tensor, statistics: LayerStatistics, heads: int) -> Tensor:
    """E|k_f|^2 of an affine projection (n * d_h, d + 1): (d_h/2, n)."""
    return pair_moments(rows, augmented(statistics), heads).diagonal(dim1=1, dim2=2).real


def augmented(statistics: LayerStatistics) -> Tensor:
    """E[(x, 1)(x, 1)^T]: (d + 1, d + 1)."""
    covariance, mean = statistics.input_covariance, statistics.input_mean[:, None]
    one = torch.ones(1, 1, dtype=covariance.dtype, device=covariance.device)
    return torch.cat([torch.cat([covariance, mean], dim=1), torch.cat([mean.T, one], dim=1)])


def _scores(folds: list[Fold], kv_heads: int) -> Tensor:
    """Damage as a picture: component j of a fold is pair j of its frequencies, row by row; (n_kv, d_h/2)."""
    return torch.cat([fold.damage.view(kv_heads, fold.last - fold.first) for fold in folds], dim=1)
