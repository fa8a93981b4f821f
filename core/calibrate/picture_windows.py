# SPDX-License-Identifier: Apache-2.0
"""Images and their texts to windows of token ids, see core/calibrate/picture_ids.py."""

from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.calibrate.picture_ids import FIRST_ROW, is_picture
from core.calibrate.pictures import PLACE, Captioned, open_image, read_captioned
from core.errors import TextError
from core.export.record import sha256_of
from core.weights.processor import load_processor


@dataclass(frozen=True)
class Picture:
    """One image that windows show, and how many rows the vision tower makes of it."""

    path: Path
    tokens: int
    sha256: str


def picture_windows(
    folder: Path, file: Path, context: int, most: int, seed: int | None
) -> tuple[Tensor, list[Picture]]:
    """At most `most` windows (n, context) of images and texts in `file`, and the images they show.

    Row numbers follow the order of the images. With a seed lines are drawn, else they come in order. Every
    window begins with an image's line and goes on with the next ones; a line that does not fit is cut there
    and begins the next window, so that each is read whole once unless it is longer than a window. What
    remains at the end is dropped. As for texts no special tokens are added. Raises TextError, naming the
    file, for a damaged image, and when an image alone fills a window.
    """
    processor, lines = load_processor(folder), read_captioned(file)
    order = list(range(len(lines)))
    if seed is not None:
        order = torch.randperm(len(lines), generator=torch.Generator().manual_seed(seed)).tolist()
    windows: list[Tensor] = []
    pictures: list[Picture] = []
    begun, rows = torch.empty(0, dtype=torch.int64), 0
    for index in order:
        if len(windows) >= most:
            break
        ids, picture = _read(processor, lines[index], context, rows)
        pictures.append(picture)
        rows += picture.tokens
        if len(begun) + len(ids) > context and len(begun):
            windows.append(torch.cat([begun, ids])[:context])
            begun = begun[:0]
        begun = torch.cat([begun, ids])
        if len(begun) >= context:
            windows.append(begun[:context])
            begun = begun[:0]
    found = torch.stack(windows[:most]) if windows and most else begun.new_empty(0, context)
    return found, pictures


def _read(processor: Any, line: Captioned, context: int, row: int) -> tuple[Tensor, Picture]:
    """The ids of one line, its image's rows counted from `row`."""
    text = line.text if PLACE in line.text else f"{PLACE}\n{line.text}"
    image = open_image(line.image)
    made = processor(images=image, text=text.replace(PLACE, processor.image_token), add_special_tokens=False)
    ids = torch.tensor(made["input_ids"][0], dtype=torch.int64)
    seen = ids == processor.image_token_id
    count = int(seen.sum())
    if count >= context:
        raise TextError(
            f"the image '{line.image.name}' takes {count} tokens, and a calibration window has {context}",
            hint=f"set calibration.context to {_power_above(count)}",
            field="calibration.context",
        )
    ids[seen] = FIRST_ROW + row + torch.arange(count)
    return ids, Picture(line.image, count, sha256_of(line.image))


def _power_above(count: int) -> int:
    return 1 << (count + 1).bit_length()


def in_order_shown(windows: Tensor, pictures: list[Picture]) -> tuple[Tensor, tuple[Picture, ...]]:
    """Windows and pictures with rows numbered as windows show them, without the pictures that none shows.

    So the first windows show the first pictures, and what one window shows lies together.
    """
    firsts = torch.tensor([0, *accumulate(picture.tokens for picture in pictures)])
    seen = is_picture(windows)
    rows = windows[seen] - FIRST_ROW
    owners = torch.searchsorted(firsts, rows, right=True) - 1
    shown = list(dict.fromkeys(owners.tolist()))
    kept = tuple(pictures[index] for index in shown)
    moved = torch.zeros(len(firsts), dtype=torch.int64)
    moved[shown] = torch.tensor([0, *accumulate(picture.tokens for picture in kept)])[:-1]
    found = windows.clone()
    found[seen] = FIRST_ROW + moved[owners] + rows - firsts[owners]
    return found, kept


def shown_in(windows: Tensor, pictures: tuple[Picture, ...]) -> tuple[Picture, ...]:
    """The pictures that the first windows show, rows numbered by `in_order_shown`."""
    seen = windows[is_picture(windows)]
    rows = int(seen.max()) - FIRST_ROW + 1 if len(seen) else 0
    before = [0, *accumulate(picture.tokens for picture in pictures)]
    return tuple(picture for picture, first in zip(pictures, before, strict=False) if first < rows)
