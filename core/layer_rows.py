# SPDX-License-Identifier: Apache-2.0
"""What reports, figures and the log say of one converted layer."""

import time
from collections.abc import Mapping
from typing import Any

from core.convert import LatentLayer
from core.facts import ModelFacts
from core.planning import LayerPlan


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


def sentence(row: Mapping[str, Any]) -> str:
    """What the log says of one layer."""
    rotary = row["cached_numbers"] - row["kv_lora_rank"]
    latent = f"latent {row['kv_lora_rank']}" + (f" + {rotary} rotary" if rotary else "")
    return f"layer {row['index']}: {latent}, values off by {100 * row['value_error']:.1f} %"
