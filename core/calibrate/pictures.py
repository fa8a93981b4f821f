# SPDX-License-Identifier: Apache-2.0
"""Pictures with texts to calibrate on: a .jsonl file beside its images. No torch.

A line is {"image": "cats/one.png", "text": "<image> A cat sleeps."}: the image's path from the folder of the
file, and what is read with it. Without <image> in the text the image stands in front.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from core.calibrate.text import check_text, existing_file, is_picture_file
from core.errors import TextError

# where the image stands in a text, whatever the model calls the place
PLACE = "<image>"
_FORM = f'a line is {{"image": "cats/one.png", "text": "{PLACE} A cat sleeps."}}'


@dataclass(frozen=True)
class Captioned:
    """One line: an image that is there, and the text around it."""

    image: Path
    text: str


def check_calibration(name: str) -> None:
    """Raise TextError now if calibration on the text, or the images and texts, called `name` would fail."""
    path = existing_file(name) if is_picture_file(name) else None
    if path is None:
        check_text(name)
    else:
        read_captioned(path)


def read_captioned(path: Path) -> list[Captioned]:
    """Every line of the file, in order.

    Raises TextError, naming the line and the image, for what is no such line, for an image that is missing,
    outside of the file's folder, or of no format that can be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(f"'{path.name}' cannot be read as UTF-8 lines", _FORM) from error
    found = [_captioned(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise _refused(f"'{path.name}' is empty", _FORM)
    return found


def open_image(path: Path) -> Image.Image:
    """The whole image as RGB; raises TextError naming the file when it is damaged."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    # a damaged file ends in SyntaxError (PNG) or ValueError, a cut one in OSError
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _refused(f"the image '{path.name}' cannot be read: {error}", "replace or remove it") from error


def _captioned(path: Path, number: int, line: str) -> Captioned:
    where = f"line {number} of '{path.name}'"
    try:
        said: Any = json.loads(line)
    except ValueError as error:
        raise _refused(f"{where} is no JSON: {error}", _FORM) from error
    if not isinstance(said, dict) or not all(_is_said(said.get(name)) for name in ("image", "text")):
        raise _refused(f"{where} does not say an image and a text", _FORM)
    if said["text"].count(PLACE) > 1:
        raise _refused(f"{where} has {PLACE} more than once", "give each image a line of its own")
    return Captioned(_image_file(path, where, said["image"]), said["text"])


def _is_said(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _image_file(path: Path, where: str, name: str) -> Path:
    """The image's file, after all links; only its beginning is looked at."""
    shown = f"{where}: the image '{name[:200]}'"
    try:
        folder = path.resolve().parent
        file = (folder / name).resolve()
        if not file.is_relative_to(folder):
            hint = "images lie in the folder of the file or below, and are named from there"
            raise _refused(f"{shown} is outside of its folder", hint)
        with Image.open(file):
            return file
    except FileNotFoundError as error:
        raise _refused(
            f"{shown} is missing", f"put it into the folder '{path.resolve().parent.name}'"
        ) from error
    except UnidentifiedImageError as error:
        raise _refused(
            f"{shown} is no image", "give PNG, JPEG, WebP or another format Pillow reads"
        ) from error
    except (OSError, RuntimeError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _refused(f"{shown} cannot be read: {error}", "replace it or remove the line") from error


def _refused(message: str, hint: str) -> TextError:
    return TextError(message, hint=hint, field="calibration.text")
