# SPDX-License-Identifier: Apache-2.0
"""Ask a model: greedy generation with its own cache, and which of several answers it finds most likely."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

from core.evaluate.kv_memory import new_cache
from core.evaluate.retrieval.question import Question

# tokens of a prompt that are read at a time: the scores of 8,192 by 8,192 tokens are not made at once
_CHUNK = 1024


@dataclass(frozen=True)
class Answered:
    """found: the share of the answers that stand in what was written (RULER's string match).

    is_chosen: the right continuation has the smallest mean loss per token of all choices.
    """

    found: float
    is_chosen: bool
    written: str


@torch.no_grad()
def ask(model: Any, tokenizer: Any, question: Question) -> Answered:
    """Read the prompt once, weigh the choices, then write; the cache is the one the model fills."""
    cache = new_cache(model)
    prompt = torch.tensor([question.ids], device=model.device)
    for piece in prompt.split(_CHUNK, dim=1):
        last = _step(model, piece, cache)
    losses = [continuation_loss(model, cache, last, choice) for choice in question.choices]
    written = tokenizer.decode(_write(model, cache, last, question.room), skip_special_tokens=True)
    return Answered(string_match(written, question.answers), losses.index(min(losses)) == 0, written)


def string_match(written: str, answers: Sequence[str]) -> float:
    """The share of `answers` that stand in `written`, in whatever case (RULER, string_match_all)."""
    text = written.lower()
    return sum(one.lower() in text for one in answers) / len(answers)


def _step(model: Any, ids: Tensor, cache: Cache) -> Tensor:
    """Logits (vocabulary,) after ids (1, n); the cache grows."""
    logits: Tensor = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
    return logits[0, -1]


def continuation_loss(model: Any, cache: Cache, last: Tensor, choice: Sequence[int]) -> float:
    """Mean loss per token of one continuation; the cache is left as it was."""
    targets = torch.tensor(choice, device=last.device)
    rows = last[None]
    if len(choice) > 1:
        given = targets[None, :-1]
        # a cache of integers does not get back what was exact before: a copy of it is small
        is_exact = isinstance(cache, DynamicCache)
        filled = cache if is_exact else deepcopy(cache)
        more = model(given, past_key_values=filled, use_cache=True).logits[0]
        if is_exact:
            cache.crop(-given.shape[1])
        rows = torch.cat([rows, more])
    return float(-rows.double().log_softmax(-1).gather(1, targets[:, None]).mean())


def _write(model: Any, cache: Cache, last: Tensor, most: int) -> list[int]:
    """The most likely token, over and over, until the model ends or `most` are written."""
    said = model.generation_config.eos_token_id
    ends = {said} if isinstance(said, int) else set(said or ())
    written: list[int] = []
    while len(written) < most:
        token = int(last.argmax())
        if token in ends:
            break
        written.append(token)
        last = _step(model, torch.tensor([[token]], device=last.device), cache)
    return written
