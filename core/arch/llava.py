# SPDX-License-Identifier: Apache-2.0
"""LLaVA 1.5, BakLLaVA and others of type `llava`: a language model that sees images.

The language tower is converted as a model of its own family; vision tower and projector stay as they are.
"""

from dataclasses import replace

from core.arch.architecture import Architecture
from core.arch.llama import LLAMA
from core.arch.mistral import MISTRAL
from core.arch.qwen2 import QWEN2

# config.json may leave out what the language tower has in common with Llama 7B
_LLAMA_7B = (("hidden_size", 4096), ("num_attention_heads", 32), ("num_hidden_layers", 32))
_OLD_NAMES = (
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head.", "lm_head."),
    ("vision_tower.vision_model.", "model.vision_tower."),
    ("vision_tower.", "model.vision_tower."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
)


def seeing(text: Architecture) -> Architecture:
    """The family of `llava` models whose language tower is of the family `text`."""
    inside = {
        name: getattr(text, name).replace("model.", "model.language_model.", 1)
        for name in ("layer", "attention", "embedding", "final_norm", "rotary")
    }
    return replace(
        text,
        **inside,
        family=f"LLaVA on {text.family}",
        model_types=tuple(f"llava+{kind}" for kind in text.model_types),
        sees_images=True,
        image_modules=("model.vision_tower", "model.multi_modal_projector"),
        config_defaults=(*_LLAMA_7B, *text.config_defaults) if text is LLAMA else text.config_defaults,
        old_names=_OLD_NAMES,
    )


LLAVA = (seeing(LLAMA), seeing(MISTRAL), seeing(QWEN2))
