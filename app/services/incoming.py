# SPDX-License-Identifier: Apache-2.0
"""A text on its way in: checked piece by piece, kept whole or not at all."""

import codecs
import hashlib
import os
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from app.services.errors import TooLargeError
from core.errors import OutputError, TextError
from core.settings import Settings

MEGABYTE = 1_000_000
# the control characters that text has; more than a few others mean that it is something else
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\b\x1b"))
_MOST_CONTROL = 0.001
_ABANDONED_SECONDS = 24 * 3600
_BOM = codecs.BOM_UTF8


class Incoming(AbstractContextManager["Incoming"]):
    """Takes bytes until it is kept; without that nothing stays. Raises at the first byte that cannot be."""

    def __init__(self, settings: Settings) -> None:
        self._most = settings.upload_mb * MEGABYTE
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._sha256 = hashlib.sha256()
        self._size = self._control = 0
        self._is_blank = True
        settings.texts_dir.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(settings.texts_dir)
        handle, name = tempfile.mkstemp(dir=settings.texts_dir, prefix=".incoming-")
        self._file, self._path = os.fdopen(handle, "wb"), Path(name)

    def write(self, chunk: bytes) -> None:
        """Take the next bytes; raises TooLargeError or TextError."""
        if not self._size and chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise TextError("this is UTF-16", hint="save it as UTF-8", field="text")
        if not self._size:
            chunk = chunk.removeprefix(_BOM)
        self._size += len(chunk)
        if self._size > self._most:
            raise too_large(self._most)
        self._check(chunk)
        self._sha256.update(chunk)
        try:
            self._file.write(chunk)
        except OSError as error:
            raise _not_written(error) from error

    def keep(self, folder: Path) -> tuple[str, int]:
        """Store what came as `<sha256>.txt` in `folder`; returns the hash and the size in bytes.

        Raises TextError for half a character at the end, and for a text of nothing but blanks.
        """
        self._decode(b"", final=True)
        if self._is_blank:
            raise TextError("the text is empty", hint="give a file with some thousand words", field="text")
        if self._control > self._size * _MOST_CONTROL:
            raise _binary()
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._path.chmod(0o644)
            self._path.replace(folder / f"{self._sha256.hexdigest()}.txt")
        except OSError as error:
            raise _not_written(error) from error
        return self._sha256.hexdigest(), self._size

    def _check(self, chunk: bytes) -> None:
        if b"\0" in chunk:
            raise _binary()
        text = self._decode(chunk, final=False)
        self._is_blank = self._is_blank and not text.strip()
        self._control += len(chunk) - len(chunk.translate(None, _CONTROL))

    def _decode(self, chunk: bytes, *, final: bool) -> str:
        try:
            return self._decoder.decode(chunk, final)
        except UnicodeDecodeError as error:
            raise TextError(
                f"this is not UTF-8 text: byte {error.object[error.start]:#04x} cannot be read",
                hint="save it as plain text in UTF-8; PDF and Word files have to be exported first",
                field="text",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


def too_large(most: int) -> TooLargeError:
    """The error of a text above the limit."""
    return TooLargeError(
        f"the text is larger than {most / MEGABYTE:g} MB",
        hint="give a part of it: some megabytes are plenty; MLA_UPLOAD_MB sets the limit",
        field="text",
    )


def _binary() -> TextError:
    return TextError("this is a binary file", hint="give plain text", field="text")


def _not_written(error: OSError) -> OutputError:
    return OutputError(
        f"the text cannot be stored: {error.strerror}", hint="free some disk space", field="text"
    )


def _remove_abandoned(folder: Path) -> None:
    """What a process that was killed left behind."""
    for path in folder.glob(".incoming-*"):
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()
        except FileNotFoundError:
            continue
