# SPDX-License-Identifier: Apache-2.0
"""How far a model can read at all. No torch."""

from pathlib import Path

from core.arch import find_architecture
from core.errors import ModelError
from core.model_config import integer, model_type_of, read_config


def learned_positions(folder: Path) -> int | None:
    """How many positions the model in `folder`, or the original it was made from, has learned.

    None for a model that rotates: it reads further than it was trained for, badly.
    """
    said = read_config(folder)
    said = said.get("base_config") or said
    family = find_architecture(model_type_of(said))
    if family is None or not family.positions:
        return None
    return integer(family.read_config(said), "max_position_embeddings")


def check_context(folder: Path, context: int) -> None:
    """Raise ModelError when a window of `context` tokens has positions that the model does not know."""
    most = learned_positions(folder)
    if most is not None and context > most:
        raise ModelError(
            f"a context of {context:,} tokens is beyond the {most:,} positions this model has learned",
            hint=f"set context to {most} or less",
            field="context",
        )
