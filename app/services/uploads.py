# SPDX-License-Identifier: Apache-2.0
"""Texts that were uploaded: stored by content, called by a name, usable as "upload:NAME".

`texts/<sha256>.txt` is the content, `texts/names/<hash of the name>.json` says what it is called. A request
that names an upload is stored with the path of the content, so a job means the same text forever. Nothing
here is executed, and no route gives a text back.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError

from app.services.errors import NotFoundError
from app.services.incoming import Incoming
from app.services.roots import UPLOAD
from core.calibrate.text import is_picture_file
from core.errors import StateError, TextError
from core.settings import Settings
from core.spec import Frozen

# no plus, which joins texts; no slash, which makes a path
_NAME = re.compile(r"[^\W_][\w .()-]{0,79}")
_LONGEST_NAME, _MOST_OF_A_NAME = 80, 100


class UploadedText(Frozen):
    """One uploaded text."""

    name: str
    sha256: str
    bytes: int
    uploaded_at: datetime
    tokens: int | None = Field(None, description="with the tokenizer of the model that was asked for")
    tokens_are: str = Field("", description="counted, or estimated from samples of a large text")

    @property
    def value(self) -> str:
        """What a request calls it."""
        return UPLOAD + self.name


def check_name(name: str) -> str:
    """The name as it is stored; raises TextError for one that cannot be used in a request."""
    tidy = unicodedata.normalize("NFC", name).strip()
    _refuse_pictures(tidy)
    if not _NAME.fullmatch(tidy):
        raise TextError(
            f"'{name[:100]}' cannot be the name of a text",
            hint="up to 80 letters, digits, spaces, and . _ - ( ); a letter or digit first",
            field="name",
        )
    return tidy


def name_of_file(file: str) -> str:
    """A usable name from that of a file: "my+notes (2).txt" becomes "my-notes (2)".

    Raises TextError for a file of images and texts.
    """
    _refuse_pictures(file)
    stem = unicodedata.normalize("NFC", Path(file).stem)
    return re.sub(r"[^\w .()-]", "-", stem).lstrip(" ._()-")[:80].strip() or "text"


def _refuse_pictures(file: str) -> None:
    """Images are named from the folder their file is in, and an upload is in none of theirs."""
    if is_picture_file(file):
        raise TextError(
            f"'{Path(file).name[:100]}' names images, which an upload does not bring along",
            hint="leave it beside its images on the server, and give its path as the calibration text",
            field="name",
        )


def store(settings: Settings, name: str, incoming: Incoming, *, numbered: bool = False) -> UploadedText:
    """Give what has arrived its name. The same text under the same name is the same upload.

    Raises TextError for what is no text, StateError when another text has the name; `numbered` then adds
    the next free number to it.
    """
    tidy = check_name(name)
    sha256, size = incoming.keep(settings.texts_dir)
    for number in range(1, _MOST_OF_A_NAME if numbered else 2):
        called = tidy if number == 1 else f"{tidy[: _LONGEST_NAME - 6]} ({number})"
        text = UploadedText(name=called, sha256=sha256, bytes=size, uploaded_at=datetime.now(UTC))
        if _claim(_name_file(settings, called), text):
            return text
        there = find(settings, called)
        if there.sha256 == sha256:
            return there
    _forget_unnamed(settings, sha256)
    raise StateError(
        f"there is another text called '{tidy}'", hint="choose another name, or delete that one", field="name"
    )


def _claim(path: Path, text: UploadedText) -> bool:
    """Write the name unless it is taken; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}-{os.urandom(4).hex()}")
    partial.write_text(text.model_dump_json(include={"name", "sha256", "bytes", "uploaded_at"}))
    try:
        os.link(partial, path)
    except FileExistsError:
        return False
    finally:
        partial.unlink()
    return True


def uploaded(settings: Settings) -> list[UploadedText]:
    """Every upload, newest first."""
    found = (_read(path) for path in (settings.texts_dir / "names").glob("*.json"))
    return sorted((one for one in found if one), key=lambda one: one.uploaded_at, reverse=True)


def find(settings: Settings, name: str) -> UploadedText:
    """The upload called `name`; raises NotFoundError naming those there are."""
    text = _read(_name_file(settings, unicodedata.normalize("NFC", name).strip()))
    if text is None:
        raise NotFoundError(f"there is no uploaded text '{name[:100]}'", hint=_others(settings), field="name")
    return text


def _others(settings: Settings) -> str:
    names = [one.name for one in uploaded(settings)][:10]
    return f"there are: {', '.join(names)}" if names else "upload one first"


def path_of(settings: Settings, text: UploadedText) -> Path:
    """Where its content is."""
    return settings.texts_dir / f"{text.sha256}.txt"


def remove(settings: Settings, name: str, in_use: Iterable[str]) -> None:
    """Forget an upload, and its content when no other name has it.

    Raises StateError when it is among the paths `in_use` by jobs that are still to run.
    """
    text = find(settings, name)
    if str(path_of(settings, text)) in in_use:
        raise StateError(
            f"a job that has not ended needs the text '{text.name}'",
            hint="wait until it has, or cancel it",
            field="name",
        )
    _name_file(settings, text.name).unlink(missing_ok=True)
    _forget_unnamed(settings, text.sha256)


def _forget_unnamed(settings: Settings, sha256: str) -> None:
    if not any(one.sha256 == sha256 for one in uploaded(settings)):
        (settings.texts_dir / f"{sha256}.txt").unlink(missing_ok=True)


def _name_file(settings: Settings, name: str) -> Path:
    # hashed, because a name may have more bytes than a file's name can
    return settings.texts_dir / "names" / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


def _read(path: Path) -> UploadedText | None:
    """What the name stands for; None when it is not there any more, or damaged."""
    try:
        return UploadedText.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
