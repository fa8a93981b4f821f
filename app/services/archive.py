# SPDX-License-Identifier: Apache-2.0
"""One uncompressed tar of many files, laid out before a byte is read.

Headers depend on names and sizes alone (fixed time, owner and mode), so every offset is known up front: the
length is exact, any range can be served, and a download that broke off continues where it stopped. Neither
disk nor memory ever holds the archive.
"""

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.store.views import StoredArtefact

CHUNK = 1 << 20
_END = bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True)
class Piece:
    """A stretch of the archive that starts at `start`: literal bytes, or the content of a file."""

    start: int
    size: int
    content: bytes | Path

    @property
    def stop(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class Archive:
    """The layout of a tar. `etag` changes when any name, size or content does."""

    name: str
    size: int
    etag: str
    pieces: tuple[Piece, ...]

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Bytes [start, stop) of the archive, in chunks."""
        for piece in self.pieces:
            if piece.start < stop and piece.stop > start:
                first, last = max(start, piece.start) - piece.start, min(stop, piece.stop) - piece.start
                yield from _read_piece(piece, first, last)


def lay_out(name: str, files: Sequence[tuple[StoredArtefact, Path]]) -> Archive:
    """The tar that unpacks into folder `name` with every file of `files`."""
    pieces: list[Piece] = []
    position = 0
    digest = hashlib.sha256(name.encode())

    def add(content: bytes | Path, size: int) -> None:
        nonlocal position
        if size:
            pieces.append(Piece(position, size, content))
            position += size

    for artefact, path in files:
        digest.update(f"{artefact.name}\0{artefact.size}\0{artefact.sha256}\0".encode())
        header = _header(f"{name}/{artefact.name}", artefact.size)
        add(header, len(header))
        add(path, artefact.size)
        padding = bytes(-artefact.size % tarfile.BLOCKSIZE)
        add(padding, len(padding))
    add(_END, len(_END))
    return Archive(name, position, f'"{digest.hexdigest()}"', tuple(pieces))


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, 0
    return info.tobuf(tarfile.GNU_FORMAT)


def _read_piece(piece: Piece, first: int, last: int) -> Iterator[bytes]:
    if isinstance(piece.content, bytes):
        yield piece.content[first:last]
        return
    with piece.content.open("rb") as file:
        file.seek(first)
        left = last - first
        while left:
            chunk = file.read(min(CHUNK, left))
            if not chunk:
                raise OSError(f"{piece.content.name} became shorter while it was read")
            left -= len(chunk)
            yield chunk
