# SPDX-License-Identifier: Apache-2.0
"""Text to windows of token ids."""

from pathlib import Path

import torch
from torch import Tensor

from core.calibrate.text import read_text, text_parts
from core.errors import TextError
from core.weights.tokenizer import load_tokenizer


def tokenize(folder: Path, text: str) -> Tensor:
    """The whole of `text` as ids (n,), no special tokens added; raises ModelError without a tokenizer."""
    tokenizer = load_tokenizer(folder)
    # verbose=False: the text is longer than one context on purpose
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return torch.tensor(ids, dtype=torch.int64)


def calibration_windows(
    folder: Path, name: str, tokens: int, context: int, seed: int | None = None
) -> Tensor:
    """Non-overlapping windows (n, context) of text `name`, at most `tokens` in all.

    With a seed they are drawn from all over the text, else they are its first ones. Of several texts
    ("wikipedia+news") each gives the same number, in turn. So any first part of the windows stands for the
    whole, too. Raises TextError when a text does not fill one window.
    """
    parts = text_parts(name)
    ids = [tokenize(folder, read_text(part)) for part in parts]
    shares = _shares(tokens // context, [len(one) // context for one in ids])
    for part, one in zip(parts, ids, strict=True):
        if min(tokens, len(one)) < context:
            name = f"'{part}' " if len(parts) > 1 else ""
            raise _too_short(f"the calibration text {name}has {len(one)} tokens, one window needs {context}")
    if 0 in shares:
        found = f"{tokens} tokens fill {tokens // context} of the {len(parts)} windows"
        raise _too_short(f"{found} that {len(parts)} texts need")
    cut = [_cut(one, share, context, seed) for one, share in zip(ids, shares, strict=True)]
    turns = [one[turn] for turn in range(max(shares)) for one in cut if turn < len(one)]
    return torch.stack(turns)


def _cut(ids: Tensor, count: int, context: int, seed: int | None) -> Tensor:
    """`count` windows of one text."""
    whole = len(ids) // context
    windows = ids[: whole * context].view(whole, context)
    if seed is None:
        return windows[:count]
    return windows[torch.randperm(whole, generator=torch.Generator().manual_seed(seed))[:count]]


def _too_short(message: str) -> TextError:
    return TextError(
        message,
        hint="give a longer text, more tokens, or a smaller calibration context",
        field="calibration.text",
    )


def _shares(windows: int, available: list[int]) -> list[int]:
    """Windows of each text: equal, the first ones taking the remainder; a short text limits the others."""
    shares = [
        windows // len(available) + (index < windows % len(available)) for index in range(len(available))
    ]
    if all(share <= there for share, there in zip(shares, available, strict=True)):
        return shares
    return [min(windows // len(available), *available)] * len(available)
