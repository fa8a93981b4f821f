# SPDX-License-Identifier: Apache-2.0
"""What reports, figures and the log say of one converted layer."""

import time
from collections.abc import Mapping
from typing import Any

from core.convert import LatentLayer
from core.facts import ModelFacts
from core.planning import LayerPlan
from core.spec import Recipe
from core.widths import PRE_ROPE


def layer_row(layer: LayerPlan, facts: ModelFacts, latent: LatentLayer, started: float) -> dict[str, object]:
    """What the reports say of one layer."""
    return {
        "index": layer.index,
        "kv_lora_rank": layer.kv_lora_rank,
        "qk_rope_head_dim": layer.qk_rope_head_dim,
        "cached_numbers": layer.cached_numbers,
        "base_numbers": facts.kv_numbers_per_layer,
        "key_error": latent.key_error,
        "value_error": latent.value_error,
        "kept": latent.kept,
        "scores": latent.scores,
        "seconds": time.monotonic() - started,
    }


def meaning_of_scores(recipe: Recipe) -> str:
    """What the scores of rotary pairs are: see app/ui/plots/rope_meaning.py, which puts it in words."""
    if recipe.layout == PRE_ROPE:
        return "exact"
    if recipe.rope_mix != "none":
        return "components"
    return "energy" if recipe.rope_select == "logit-damage" else "contribution"


def sentence(row: Mapping[str, Any]) -> str:
    """What the log says of one layer."""
    rotary = row["cached_numbers"] - row["kv_lora_rank"]
    latent = f"latent {row['kv_lora_rank']}" + (f" + {rotary} rotary" if rotary else "")
    return f"layer {row['index']}: {latent}, values off by {100 * row['value_error']:.1f} %"
