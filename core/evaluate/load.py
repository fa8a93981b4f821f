# SPDX-License-Identifier: Apache-2.0
"""Load a model folder from disk; a converted one with this program's own class, so no shipped code is run."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from core.errors import ModelError
from core.facts import read_config
from core.modeling import MLAConfig, MLAForCausalLM


def is_converted(folder: Path) -> bool:
    """Whether `folder` holds a model this workbench wrote; raises ModelError without a config.json."""
    return bool(read_config(folder).get("model_type") == MLAConfig.model_type)


def load_model(folder: Path, *, dtype: torch.dtype | None, device: str) -> Any:
    """The language model in `folder`, ready to be measured; `dtype` None keeps the stored one.

    Raises ModelError when the files cannot be loaded.
    """
    family: Any = MLAForCausalLM if is_converted(folder) else AutoModelForCausalLM
    try:
        model = family.from_pretrained(
            folder, dtype="auto" if dtype is None else dtype, local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"'{folder}' does not load: {error}", hint="convert or fetch it again") from error
    return model.to(device).eval()


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in `folder`; raises ModelError when there is none."""
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"'{folder}' has no tokenizer that loads: {error}",
            hint="copy the tokenizer files beside the model",
        ) from error
