# SPDX-License-Identifier: Apache-2.0
"""Needles in a haystack: sentences that give numbers to names, hidden in a text (RULER, arXiv 2404.06654).

RULER's task definitions in our own words, so that scores compare models with each other and not with its
table.
"""

import random
import re
from bisect import bisect_left
from collections.abc import Sequence
from functools import partial
from itertools import accumulate

from core.evaluate.retrieval.question import Draft
from core.evaluate.retrieval.words import names, numbers

NOISE = (
    "The grass is green.",
    "The sky is blue.",
    "The sun is yellow.",
    "Here we go.",
    "There and back again.",
)
# units of hay that no context in sight uses up
_MOST = 200_000
_CHOICES = 8
_OTHERS = 3


def sentences(text: str) -> list[str]:
    """The sentences of `text`, paragraphs joined."""
    return [one for one in re.split(r"(?<=[.!?])\s+", " ".join(text.split())) if one]


def single(dice: random.Random, depth: float, essay: Sequence[str] | None) -> Draft:
    """One needle, in repeated noise (essay None) or in an essay (niah_single_1 and _2)."""
    [key], values = names(1, dice), numbers(_CHOICES, dice)
    return _draft([(key, values[0])], [key], values, dice, depth, essay)


def multikey(dice: random.Random, depth: float, essay: Sequence[str] | None) -> Draft:
    """Four names with a number each, asked for one of them (niah_multikey_1)."""
    keys, values = names(1 + _OTHERS, dice), numbers(_CHOICES, dice)
    needles = list(zip(keys, values, strict=False))
    return _draft(needles, keys[:1], values, dice, depth, essay)


def multivalue(dice: random.Random, depth: float, essay: Sequence[str] | None) -> Draft:
    """One name with four numbers, asked for all (niah_multivalue)."""
    [key], values = names(1, dice), numbers(1 + _OTHERS + _CHOICES - 1, dice)
    given, wrong = values[: 1 + _OTHERS], values[1 + _OTHERS :]
    return _draft([(key, one) for one in given], [key], [given[0], *wrong], dice, depth, essay)


def multiquery(dice: random.Random, depth: float, essay: Sequence[str] | None) -> Draft:
    """Four names with a number each, asked for all (niah_multiquery)."""
    keys, values = names(1 + _OTHERS, dice), numbers(1 + _OTHERS + _CHOICES - 1, dice)
    needles = list(zip(keys, values, strict=False))
    return _draft(needles, keys, [values[0], *values[1 + _OTHERS :]], dice, depth, essay)


def among_needles(dice: random.Random, depth: float, context: int) -> Draft:
    """One needle in a haystack of needles of other names (niah_multikey_2)."""
    # a needle is ten words or more
    count = _CHOICES + context // 10
    keys, values = names(count, dice), numbers(count, dice)
    hay = [_needle(key, value) for key, value in zip(keys[1:], values[1:], strict=True)]
    render = partial(_render, hay, [(depth, _needle(keys[0], values[0]))], _question(keys[:1], 1))
    return Draft(render, len(hay), tuple(values[:1]), tuple(values[:_CHOICES]), depth)


def _draft(
    needles: Sequence[tuple[str, str]],
    asked: Sequence[str],
    choices: Sequence[str],
    dice: random.Random,
    depth: float,
    essay: Sequence[str] | None,
) -> Draft:
    """The first needle at `depth`, the others anywhere."""
    depths = [depth, *(dice.random() for _ in needles[1:])]
    places = [(at, _needle(key, value)) for at, (key, value) in zip(depths, needles, strict=True)]
    hay = NOISE if essay is None else essay
    most = _MOST if essay is None else len(essay)
    answers = tuple(value for key, value in needles if key in asked)
    question = _question(asked, len(answers))
    return Draft(partial(_render, hay, places, question), most, answers, tuple(choices), depth)


def _needle(key: str, value: str) -> str:
    return f"One of the secret numbers of {key} is {value}."


def hide(hay: Sequence[str], count: int, needles: Sequence[tuple[float, str]]) -> str:
    """`count` units of hay, from its start again when it ends, with each needle at its depth (0 to 1).

    A needle goes between two units, where its share of the characters is nearest to the depth.
    """
    parts = [hay[index % len(hay)] for index in range(count)]
    ends = list(accumulate((len(one) for one in parts), initial=0))
    # from the back, so that places in front stay where they are
    for depth, needle in sorted(needles, reverse=True):
        place = depth * ends[-1]
        after = bisect_left(ends, place)
        nearer = after and place - ends[after - 1] < ends[after] - place
        parts.insert(after - 1 if nearer else after, needle)
    return " ".join(parts)


def _render(hay: Sequence[str], needles: Sequence[tuple[float, str]], question: str, count: int) -> str:
    return (
        "Some secret numbers are hidden in the following text. Remember them: there is a question about them "
        f"at the end.\n{hide(hay, count, needles)}\n{question}"
    )


def _question(asked: Sequence[str], answers: int) -> str:
    """Ends where the answer begins."""
    keys = ", ".join(asked[:-1]) + " and " + asked[-1] if len(asked) > 1 else asked[0]
    what, verb = ("number", "is") if answers == 1 else ("numbers", "are")
    return (
        f"Which secret {what} of {keys} does the text name? The secret {what} of {keys} that it names {verb}"
    )
