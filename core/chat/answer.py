# SPDX-License-Identifier: Apache-2.0
"""One answer of one model, a step at a time, with what it costs measured as it grows."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from core.chat.choosing import Chooser
from core.chat.prompt import end_tokens, prompt_tokens
from core.errors import TextError
from core.evaluate.kv_memory import filled_bytes, formula_kv_bytes, new_cache
from core.modeling import MLAConfig

# prompt tokens read in one step: a stop is heard between steps, and other answers go on
CHUNK = 256
# what a decoder puts for bytes that are not a whole character yet
_UNFINISHED = "\ufffd"


@dataclass(frozen=True)
class Speaker:
    """A model in memory with its tokenizer."""

    model: Any
    tokenizer: Any

    @property
    def kv_bytes_per_token(self) -> int:
        """By the formula."""
        return formula_kv_bytes(self.model.config, self.model.dtype)

    @property
    def kv_bytes_per_token_base(self) -> int:
        """By the formula, of the model it was converted from; its own when it was not."""
        config = self.model.config
        base = config.base() if isinstance(config, MLAConfig) else config
        return formula_kv_bytes(base, self.model.dtype)

    @property
    def context(self) -> int:
        """Positions the model was trained for."""
        return int(self.model.config.max_position_embeddings)


class Answer:
    """Reads the prompt, then writes one token per step until `ending` says why it is over."""

    def __init__(
        self, speaker: Speaker, messages: Sequence[Mapping[str, str]], chooser: Chooser, max_tokens: int
    ) -> None:
        """Raises TextError when the conversation does not fit the model's context."""
        self._speaker = speaker
        self._chooser = chooser
        self._max_tokens = max_tokens
        self._ends = end_tokens(speaker.model, speaker.tokenizer)
        self._cache = new_cache(speaker.model)
        self._unread = prompt_tokens(speaker.tokenizer, messages)
        self._written: list[int] = []
        self.prompt_tokens = len(self._unread)
        self.prompt_seconds = 0.0
        self.decode_seconds = 0.0
        self.ending = ""
        if self.prompt_tokens >= speaker.context:
            raise TextError(
                f"the conversation has {self.prompt_tokens:,} tokens, "
                f"this model's context ends at {speaker.context:,}",
                hint="start a new conversation, or ask something shorter",
            )

    @property
    def seconds(self) -> float:
        """Time this model has computed so far."""
        return self.prompt_seconds + self.decode_seconds

    @torch.no_grad()
    def step(self) -> None:
        """Read a piece of the prompt, or write a token."""
        started = time.perf_counter()
        is_reading = bool(self._unread)
        tokens = self._unread[:CHUNK] if is_reading else self._written[-1:]
        self._unread = self._unread[CHUNK:]
        ids = torch.tensor([tokens], device=self._speaker.model.device)
        logits = self._speaker.model(
            ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1
        ).logits[0, -1]
        if not self._unread:
            self._write(self._chooser.choose(logits))
        spent = time.perf_counter() - started
        if is_reading:
            self.prompt_seconds += spent
        else:
            self.decode_seconds += spent

    def _write(self, token: int) -> None:
        if token in self._ends:
            self.ending = "end"
            return
        self._written.append(token)
        if len(self._written) >= self._max_tokens:
            self.ending = "length"
        elif self.prompt_tokens + len(self._written) >= self._speaker.context:
            self.ending = "context"

    @property
    def text(self) -> str:
        """The answer so far, without a character that is not whole yet."""
        text: str = self._speaker.tokenizer.decode(self._written, skip_special_tokens=True)
        return text if self.ending else text.rstrip(_UNFINISHED)

    @property
    def numbers(self) -> dict[str, Any]:
        """What is known by now; `kv_bytes` is counted on the cache itself."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "tokens": len(self._written),
            "cached_tokens": self._cache.get_seq_length(),
            "prompt_seconds": self.prompt_seconds,
            "decode_seconds": self.decode_seconds,
            "kv_bytes": filled_bytes(self._cache),
        }
