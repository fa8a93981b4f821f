# SPDX-License-Identifier: Apache-2.0
"""Text to windows of token ids."""

from pathlib import Path

import torch
from torch import Tensor

from core.calibrate.text import read_text
from core.errors import TextError
from core.weights.tokenizer import load_tokenizer


def tokenize(folder: Path, text: str) -> Tensor:
    """The whole of `text` as ids (n,), no special tokens added; raises ModelError without a tokenizer."""
    tokenizer = load_tokenizer(folder)
    # verbose=False: the text is longer than one context on purpose
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return torch.tensor(ids, dtype=torch.int64)


def calibration_windows(folder: Path, name: str, tokens: int, context: int) -> Tensor:
    """Non-overlapping windows (n, context) from the start of text `name`, at most `tokens` in all.

    Raises TextError when the text does not fill one window.
    """
    ids = tokenize(folder, read_text(name))
    count = min(tokens, len(ids)) // context
    if count == 0:
        raise TextError(
            f"the calibration text has {len(ids)} tokens, one window needs {context}",
            hint="give a longer text, more tokens, or a smaller calibration context",
            field="calibration.text",
        )
    return ids[: count * context].view(count, context)
