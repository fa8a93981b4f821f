# SPDX-License-Identifier: Apache-2.0
"""Load the tokenizer of a model folder without asking about, or running, code in it."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from core.errors import ModelError
from core.model_config import read_config
from core.modeling import MLAConfig


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in `folder`, original or converted; raises ModelError when there is none."""
    # AutoTokenizer looks at the config too, and for an export asks the terminal whether it may run its
    # code: give it our own class for those
    is_export = read_config(folder).get("model_type") == MLAConfig.model_type
    try:
        config = MLAConfig.from_pretrained(folder, local_files_only=True) if is_export else None
        return AutoTokenizer.from_pretrained(
            folder, config=config, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        # damaged files end in KeyError, TypeError, ...; the tokenizers library raises a bare Exception
        raise ModelError(
            f"'{folder.name}' has no tokenizer that loads: {error}",
            hint="the folder needs tokenizer.json",
            field="model",
        ) from error
