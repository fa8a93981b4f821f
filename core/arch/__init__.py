# SPDX-License-Identifier: Apache-2.0
"""The model families that can be converted."""

from core.arch.architecture import Architecture
from core.arch.llama import LLAMA

ARCHITECTURES: tuple[Architecture, ...] = (LLAMA,)


def find_architecture(model_type: str) -> Architecture | None:
    """The family that declares `model_type`, or None when there is none."""
    return next((family for family in ARCHITECTURES if model_type in family.model_types), None)


__all__ = ["ARCHITECTURES", "Architecture", "find_architecture"]
