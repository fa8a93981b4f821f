# SPDX-License-Identifier: Apache-2.0
"""Load what makes a model's inputs of images and texts, without running code in the model's folder."""

from pathlib import Path
from typing import Any

from transformers import AutoProcessor

from core.errors import ModelError


def load_processor(folder: Path) -> Any:
    """The processor of the original in `folder`; raises ModelError when there is none that loads.

    Images are resized by Pillow, whatever else is installed: the same images give the same numbers.
    """
    try:
        found = AutoProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, backend="pil"
        )
        # a folder without one gives its tokenizer alone
        found.image_processor  # noqa: B018
        return found
    except Exception as error:
        # as of tokenizers: damaged files end in errors of every kind
        raise ModelError(
            f"'{folder.name}' has no image processor that loads: {error}",
            hint="the folder needs processor_config.json or preprocessor_config.json; text needs neither",
            field="model",
        ) from error
