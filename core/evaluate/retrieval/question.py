# SPDX-License-Identifier: Apache-2.0
"""A question about a long text, cut to the length asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import TextError


@dataclass(frozen=True)
class Draft:
    """A question before its length is known.

    render: prompt with that many units of hay (sentences, other needles, words), of which there are `most`.
    answers: what must stand in what the model writes. choices: continuations of the prompt to weigh against
    each other, the right one first. depth: where in the text the needle is, 0 to 1; None for a task without.
    """

    render: Callable[[int], str]
    most: int
    answers: tuple[str, ...]
    choices: tuple[str, ...]
    depth: float | None = None


@dataclass(frozen=True)
class Question:
    """A prompt of at most the asked length less the room for an answer, as token ids.

    choices: token ids of each continuation, the right one first.
    """

    ids: tuple[int, ...]
    answers: tuple[str, ...]
    choices: tuple[tuple[int, ...], ...]
    room: int
    depth: float | None


def fit(draft: Draft, tokenizer: Any, context: int) -> Question:
    """The question with as much hay as prompt and answer leave in `context` tokens.

    Raises TextError when there is too little hay, or none fits.
    """
    choices = tuple(_ids(tokenizer, f" {one}", special=False) for one in draft.choices)
    answer = len(_ids(tokenizer, " " + ", ".join(draft.answers), special=False))
    # models put words around an answer
    room = 2 * answer + 16
    # a unit of hay is a token or more
    low, high = 0, min(draft.most, context)
    while low < high:
        middle = (low + high + 1) // 2
        fits = len(_ids(tokenizer, draft.render(middle), special=True)) + room <= context
        low, high = (middle, high) if fits else (low, middle - 1)
    if low == 0:
        raise TextError(
            f"a question does not fit {context} tokens", hint="use a longer context", field="contexts"
        )
    if low == draft.most:
        raise TextError(
            f"the text is too short to fill {context:,} tokens", hint="give a longer text", field="essay"
        )
    return Question(
        _ids(tokenizer, draft.render(low), special=True), draft.answers, choices, room, draft.depth
    )


def _ids(tokenizer: Any, text: str, *, special: bool) -> tuple[int, ...]:
    found: Mapping[str, list[int]] = tokenizer(text, add_special_tokens=special, verbose=False)
    return tuple(found["input_ids"])
