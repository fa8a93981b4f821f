# SPDX-License-Identifier: Apache-2.0
"""What a layer's cache holds, in a few words that are right for every layout."""

from core.planning import LayerPlan, Plan
from core.spec import Recipe
from core.stages import STAGES


def cached_words(plan: Plan, recipe: Recipe) -> str:
    """What every layer caches; where layers differ, or calibration may yet make them, the average."""
    is_same = len({layer.widths for layer in plan.layers}) == 1
    words = layer_words(plan.layers[0] if is_same else _average(plan))
    return words if is_same and recipe.allocate == "uniform" else f"{words}, on average"


def mean_numbers(plan: Plan) -> int:
    """Numbers cached per token and layer, on average over the layers."""
    return round(sum(layer.cached_numbers for layer in plan.layers) / len(plan.layers))


def _average(plan: Plan) -> LayerPlan:
    """A layer of mean widths, for words."""
    first, count = plan.layers[0], len(plan.layers)
    dims, ranks = (
        round(sum(getattr(layer, name) for layer in plan.layers) / count)
        for name in ("qk_rope_head_dim", "kv_lora_rank")
    )
    return first.model_copy(update={"qk_rope_head_dim": dims, "kv_lora_rank": ranks})


def layout_words(plan: Plan) -> str:
    """What layers keep of a token; without rotary dims there is no key beside the latent."""
    first = plan.layers[0]
    if not first.qk_rope_head_dim:
        return "one latent, read as it is (absorbed): fast"
    return STAGES["layout"].ready[first.layout]


def layer_words(layer: LayerPlan) -> str:
    """ "latent 120" (pre-rope), "latent 104 + 16 shared rotary dims" or "latent 96 + 3 × 8 rotary dims"."""
    latent = f"latent {layer.kv_lora_rank}"
    if not layer.groups or not layer.qk_rope_head_dim:
        return latent
    if layer.groups == 1:
        return f"{latent} + {layer.qk_rope_head_dim} shared rotary dims"
    return f"{latent} + {layer.groups} × {layer.qk_rope_head_dim} rotary dims"


def linear_words(plan: Plan) -> str:
    """ "106,168,320 -> 84,818,250 (-20.1 %)": what the linear layers of the decoder keep."""
    change = plan.linears_after / plan.linears_before - 1
    return f"{plan.linears_before:,} -> {plan.linears_after:,} ({100 * change:.1f} %)"
