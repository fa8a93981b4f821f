# SPDX-License-Identifier: Apache-2.0
"""The model families that can be converted."""

from core.arch.architecture import Architecture
from core.arch.gemma2 import GEMMA2
from core.arch.gemma3 import GEMMA3
from core.arch.gpt2 import GPT2
from core.arch.gpt_neox import GPT_NEOX
from core.arch.llama import LLAMA
from core.arch.llava import LLAVA
from core.arch.mistral import MISTRAL
from core.arch.mixtral import MIXTRAL
from core.arch.opt import OPT
from core.arch.phi3 import PHI3
from core.arch.qwen2 import QWEN2
from core.arch.qwen3 import QWEN3
from core.arch.qwen_moe import QWEN2_MOE, QWEN3_MOE

ARCHITECTURES: tuple[Architecture, ...] = (
    LLAMA,
    MISTRAL,
    QWEN2,
    QWEN3,
    GEMMA2,
    GEMMA3,
    PHI3,
    GPT_NEOX,
    OPT,
    GPT2,
    MIXTRAL,
    QWEN2_MOE,
    QWEN3_MOE,
    *LLAVA,
)


def find_architecture(model_type: str) -> Architecture | None:
    """The family that declares `model_type` (see core/model_config.py), or None when there is none."""
    return next((family for family in ARCHITECTURES if model_type in family.model_types), None)


__all__ = ["ARCHITECTURES", "Architecture", "find_architecture"]
