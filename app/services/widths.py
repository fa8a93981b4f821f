# SPDX-License-Identifier: Apache-2.0
"""What a layer's cache holds, in a few words that are right for every layout."""

from core.planning import LayerPlan, Plan
from core.spec import Recipe


def cached_words(plan: Plan, recipe: Recipe) -> str:
    """What every layer caches; with an allocation that waits for calibration, what they cache on average."""
    words = layer_words(plan.layers[0])
    return words if recipe.allocate == "uniform" else f"{words}, on average"


def layer_words(layer: LayerPlan) -> str:
    """ "latent 120" (pre-rope), "latent 104 + 16 shared rotary dims" or "latent 96 + 3 × 8 rotary dims"."""
    latent = f"latent {layer.kv_lora_rank}"
    if not layer.groups:
        return latent
    if layer.groups == 1:
        return f"{latent} + {layer.qk_rope_head_dim} shared rotary dims"
    return f"{latent} + {layer.groups} × {layer.qk_rope_head_dim} rotary dims"
