# SPDX-License-Identifier: Apache-2.0
"""The converted model as a Hugging Face model; `modeling_mla.py` is shipped with every export."""

from pathlib import Path

from core.modeling.modeling_mla import (
    LATENT_ROPE,
    PRE_ROPE,
    FactorShape,
    GrowingCache,
    LatentAttention,
    LatentCache,
    LatentShape,
    MLAConfig,
    MLAForCausalLM,
    MLAForImageTextToText,
)

_CLASSES: dict[str, type[MLAForCausalLM]] = {
    one.__name__: one for one in (MLAForCausalLM, MLAForImageTextToText)
}


def class_of(config: MLAConfig) -> type[MLAForCausalLM]:
    """The class that a converted model's config names; a config that names none is a language model's."""
    return _CLASSES[(config.architectures or ["MLAForCausalLM"])[0]]


def export_source() -> Path:
    """The self-contained file to copy beside exported weights, named in their `auto_map`."""
    return Path(__file__).with_name("modeling_mla.py")


__all__ = [
    "LATENT_ROPE",
    "PRE_ROPE",
    "FactorShape",
    "GrowingCache",
    "LatentAttention",
    "LatentCache",
    "LatentShape",
    "MLAConfig",
    "MLAForCausalLM",
    "MLAForImageTextToText",
    "class_of",
    "export_source",
]
