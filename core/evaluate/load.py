# SPDX-License-Identifier: Apache-2.0
"""Load a model folder from disk; a converted one with this program's own class, so no shipped code is run."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from core.errors import ModelError
from core.model_config import read_config
from core.modeling import MLAConfig, class_of


def is_converted(folder: Path) -> bool:
    """Whether `folder` holds a model this workbench wrote; raises ModelError without a config.json."""
    return bool(read_config(folder).get("model_type") == MLAConfig.model_type)


def load_model(folder: Path, *, dtype: torch.dtype | None, device: str | torch.device) -> Any:
    """The language model in `folder`, ready to be measured; `dtype` None keeps the stored one.

    Raises ModelError when the files cannot be loaded.
    """
    family = _class_of(folder)
    try:
        model, found = family.from_pretrained(
            folder,
            dtype=dtype or "auto",
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"'{folder}' does not load: {error}", hint="convert or fetch it again") from error
    # transformers fills absent weights with random numbers and only warns: every figure would be wrong
    if found["missing_keys"]:
        missing = sorted(found["missing_keys"])
        raise ModelError(
            f"{len(missing)} weights are missing in '{folder}', first {missing[0]}",
            hint="convert or fetch it again",
        )
    return model.to(device).eval()


def _class_of(folder: Path) -> Any:
    """What loads the folder: this program's own class for a converted model."""
    said = read_config(folder)
    if said.get("model_type") == MLAConfig.model_type:
        return class_of(MLAConfig.from_pretrained(folder, local_files_only=True))
    return AutoModelForImageTextToText if "vision_config" in said else AutoModelForCausalLM
