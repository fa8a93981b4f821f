# SPDX-License-Identifier: Apache-2.0
"""How many tokens a text has, with the tokenizer of a model. Without torch: tokenizers alone is light."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# a large text is known from samples: the whole would take seconds per 10 MB, at every change of the model
EXACT_BYTES = 1_000_000
_SAMPLES, _SAMPLE_BYTES = 8, 32_000
_REMEMBERED = 256


@dataclass(frozen=True)
class TokenCount:
    """How many; `is_exact` when all of the text was read."""

    tokens: int
    is_exact: bool


Key = tuple[str, int, str]


class TokenCounts:
    """Counts by tokenizer and text, and the tokenizer that was used last."""

    def __init__(self) -> None:
        self._counts: OrderedDict[Key, TokenCount] = OrderedDict()
        self._last: tuple[tuple[str, int], Any] | None = None
        self._lock = threading.Lock()

    def count(self, model: Path, text: Path) -> TokenCount | None:
        """Tokens of the file `text`, which never changes; None when the model has no readable tokenizer."""
        file = model / "tokenizer.json"
        try:
            version = (str(file), file.stat().st_mtime_ns)
        except OSError:
            return None
        key = (*version, str(text))
        with self._lock:
            if key not in self._counts:
                tokenizer = self._tokenizer(file, version)
                if tokenizer is None:
                    return None
                self._counts[key] = _count(tokenizer, text)
            while len(self._counts) > _REMEMBERED:
                self._counts.popitem(last=False)
            return self._counts.get(key)

    def _tokenizer(self, file: Path, version: tuple[str, int]) -> Any:
        if self._last is None or self._last[0] != version:
            self._last = (version, _load(file))
        return self._last[1]


def _load(file: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception:
        # a damaged file ends in a bare Exception there; the conversion will say what is wrong with it
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _count(tokenizer: Any, text: Path) -> TokenCount:
    size = text.stat().st_size
    if size <= EXACT_BYTES:
        return TokenCount(_length(tokenizer, text.read_text(encoding="utf-8")), True)
    tokens = read = 0
    with text.open("rb") as file:
        for sample in range(_SAMPLES):
            file.seek(sample * (size - _SAMPLE_BYTES) // (_SAMPLES - 1))
            chunk = file.read(_SAMPLE_BYTES)
            # a sample may begin and end inside a character
            tokens += _length(tokenizer, chunk.decode("utf-8", "ignore"))
            read += len(chunk)
    return TokenCount(round(tokens * size / read), False)


def _length(tokenizer: Any, text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False).ids)
