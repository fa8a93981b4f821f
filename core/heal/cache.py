# SPDX-License-Identifier: Apache-2.0
"""What the teacher said, on disk: asked once, read by every later healing with the same teacher.

A folder belongs to one teacher, context, k and temperature. In it windows are found by the digest of their
tokens, whatever text, mix, order or seed they come from. Chunks appear whole, by one rename.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from core.calibrate.layer_statistics import sync
from core.heal.spec import Healing
from core.heal.targets import Targets

# raised whenever the same teacher and window give other numbers
VERSION = 1
# tokens of one file: 6 MB at 64 stored tokens
CHUNK_TOKENS = 16_384
_KEY = 16


class TeacherCache:
    """The stored targets of one teacher."""

    def __init__(self, folder: Path, context: int) -> None:
        self._folder = folder
        self._context = context
        self._places: dict[bytes, tuple[Path, int]] = {}
        self.look()

    def look(self) -> None:
        """See what is there now: another process may have added some."""
        known = {file for file, _ in self._places.values()}
        for file in sorted(self._folder.glob("*.safetensors")):
            if file not in known:
                with safe_open(file, framework="pt") as handle:
                    keys = handle.get_tensor("keys")
                for row, key in enumerate(keys.numpy()):
                    self._places.setdefault(key.tobytes(), (file, row))

    def missing(self, windows: Tensor) -> Tensor:
        """Those of `windows` (n, context) that are not stored, each once, in order."""
        found = {
            key: row for row, key in reversed(list(enumerate(keys_of(windows)))) if key not in self._places
        }
        return windows[sorted(found.values())]

    def chunks(self, windows: Tensor) -> Iterator[Tensor]:
        """Cut windows into what one file holds."""
        yield from windows.split(max(1, CHUNK_TOKENS // self._context))

    def add(self, windows: Tensor, targets: Targets) -> None:
        """Store what the teacher said of `windows`."""
        keys = keys_of(windows)
        name = hashlib.sha256(b"".join(keys)).hexdigest()[:32]
        path = self._folder / f"{name}.safetensors"
        tensors = {
            "keys": torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).view(-1, _KEY),
            "index": targets.index.to(torch.int32),
            "log_p": targets.log_p.to(torch.float16),
            "log_rest": targets.log_rest.to(torch.float32),
            "loss": targets.loss.to(torch.float32),
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        # a name of its own: two healings may ask the same teacher at the same time
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_bytes(save({name: one.cpu().contiguous() for name, one in tensors.items()}))
        sync(partial)
        partial.rename(path)
        self.look()

    def read(self, windows: Tensor) -> Targets:
        """The targets of windows that are stored."""
        found: list[tuple[Tensor, ...]] = []
        for key in keys_of(windows):
            file, row = self._places[key]
            with safe_open(file, framework="pt") as handle:
                names = ("index", "log_p", "log_rest", "loss")
                found.append(tuple(handle.get_slice(name)[row : row + 1] for name in names))
        index, log_p, log_rest, loss = (torch.cat(one) for one in zip(*found, strict=True))
        return Targets(index, log_p, log_rest, loss).normalised()


def keys_of(windows: Tensor) -> list[bytes]:
    """A digest of every window's tokens."""
    rows = windows.to(torch.int32).contiguous().numpy()
    return [hashlib.sha256(row.tobytes()).digest()[:_KEY] for row in rows]


def cache_bytes(windows: int, context: int, k: int) -> int:
    """What so many windows take on the disk."""
    return windows * (_KEY + context * (k * (4 + 2) + 4 + 4))


def cache_fingerprint(healing: Healing, dtype: torch.dtype, teacher: dict[str, str]) -> str:
    """Everything the stored numbers depend on; `teacher` has the digests of its files by name."""
    parts = [
        VERSION,
        healing.context,
        healing.top_k,
        healing.temperature,
        str(dtype),
        sorted(teacher.items()),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
