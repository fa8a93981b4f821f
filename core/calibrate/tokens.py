# SPDX-License-Identifier: Apache-2.0
"""Text, or images with texts, to windows of token ids."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from core.calibrate.picture_ids import is_picture
from core.calibrate.picture_windows import Picture, in_order_shown, picture_windows
from core.calibrate.text import existing_file, is_picture_file, read_text, text_parts
from core.errors import TextError
from core.weights.tokenizer import load_tokenizer

_Part = tuple[Tensor, list[Picture]]


def tokenize(folder: Path, text: str) -> Tensor:
    """The whole of `text` as ids (n,), no special tokens added; raises ModelError without a tokenizer."""
    tokenizer = load_tokenizer(folder)
    # verbose=False: the text is longer than one context on purpose
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return torch.tensor(ids, dtype=torch.int64)


def calibration_windows(
    folder: Path, name: str, tokens: int, context: int, seed: int | None = None
) -> Tensor:
    """The windows of `windows_of`, without the images in them."""
    return windows_of(folder, name, tokens, context, seed)[0]


def windows_of(
    folder: Path, name: str, tokens: int, context: int, seed: int | None = None
) -> tuple[Tensor, tuple[Picture, ...]]:
    """Non-overlapping windows (n, context) of text `name`, at most `tokens` in all, and the images in them.

    With a seed they are drawn from all over the text, else they are its first ones. Of several texts
    ("wikipedia+news", "wikipedia+pictures.jsonl") each gives the same number, in turn. So any first part of
    the windows stands for the whole, too. Raises TextError when a text does not fill one window.
    """
    parts = text_parts(name)
    reading = _Reading(folder, tokens, context, seed, len(parts))
    found = [reading.part(part) for part in parts]
    shares = _shares(tokens // context, [len(windows) for windows, _ in found])
    if 0 in shares:
        filled = f"{tokens} tokens fill {tokens // context} of the {len(parts)} windows"
        raise _too_short(f"{filled} that {len(parts)} texts need")
    cut, pictures = _counted_on(
        [(one[:share], seen) for (one, seen), share in zip(found, shares, strict=True)]
    )
    turns = torch.stack([one[turn] for turn in range(max(shares)) for one in cut if turn < len(one)])
    return in_order_shown(turns, pictures) if pictures else (turns, ())


@dataclass(frozen=True)
class _Reading:
    """How each of `parts` texts is read."""

    folder: Path
    tokens: int
    context: int
    seed: int | None
    parts: int

    @property
    def _most(self) -> int:
        """Windows of one text: no share is larger."""
        return math.ceil(self.tokens // self.context / self.parts)

    def part(self, name: str) -> _Part:
        file = existing_file(name) if is_picture_file(name) else None
        said = f"'{name}' " if self.parts > 1 else ""
        return (self._text(name, said), []) if file is None else self._pictures(file, said)

    def _text(self, name: str, said: str) -> Tensor:
        ids, context = tokenize(self.folder, read_text(name)), self.context
        if min(self.tokens, len(ids)) < context:
            raise _too_short(f"the calibration text {said}has {len(ids)} tokens, one window needs {context}")
        whole = len(ids) // context
        windows = ids[: whole * context].view(whole, context)
        if self.seed is None:
            return windows[: self._most]
        return windows[
            torch.randperm(whole, generator=torch.Generator().manual_seed(self.seed))[: self._most]
        ]

    def _pictures(self, file: Path, said: str) -> _Part:
        windows, pictures = picture_windows(self.folder, file, self.context, max(1, self._most), self.seed)
        if self.tokens < self.context or not len(windows):
            fill = f"{len(pictures)} images with their texts fill no window of {self.context} tokens"
            raise _too_short(f"the calibration text {said}is too short: {fill}")
        return windows, pictures


def _counted_on(parts: list[_Part]) -> tuple[list[Tensor], list[Picture]]:
    """Windows and images of several parts, with the rows of images counted on from part to part."""
    windows: list[Tensor] = []
    pictures: list[Picture] = []
    for one, seen in parts:
        before = sum(picture.tokens for picture in pictures)
        windows.append(torch.where(is_picture(one), one + before, one))
        pictures += seen
    return windows, pictures


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
