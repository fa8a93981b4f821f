# SPDX-License-Identifier: Apache-2.0
"""The retrieval tasks by name, and the questions of a task at a length; the same seed gives the same ones."""

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from core.evaluate.retrieval import needles, tracking
from core.evaluate.retrieval.question import Draft, Question, fit

# (dice, depth, sentences of the essay, context) -> a question of any length
Make = Callable[[random.Random, float, Sequence[str], int], Draft]


def _in_noise(
    make: Callable[[random.Random, float, Sequence[str] | None], Draft],
    dice: random.Random,
    depth: float,
    essay: Sequence[str],
    context: int,
) -> Draft:
    del essay, context
    return make(dice, depth, None)


def _in_essay(
    make: Callable[[random.Random, float, Sequence[str] | None], Draft],
    dice: random.Random,
    depth: float,
    essay: Sequence[str],
    context: int,
) -> Draft:
    del context
    return make(dice, depth, essay)


MAKERS: Mapping[str, Make] = {
    "single-noise": partial(_in_noise, needles.single),
    "single-essay": partial(_in_essay, needles.single),
    "multikey": partial(_in_essay, needles.multikey),
    "multikey-needles": lambda dice, depth, essay, context: needles.among_needles(dice, depth, context),
    "multivalue": partial(_in_essay, needles.multivalue),
    "multiquery": partial(_in_essay, needles.multiquery),
    "variable-tracking": lambda dice, depth, essay, context: tracking.variable_tracking(dice),
    "common-words": lambda dice, depth, essay, context: tracking.common_words(dice, context),
}


def make_questions(
    task: str, tokenizer: Any, context: int, samples: int, seed: int, essay: str
) -> list[Question]:
    """`samples` questions of at most `context` tokens with their answers, needles evenly from front to back.

    The hay of an essay starts at another sentence in each. Raises TextError when the essay is too short or a
    question does not fit.
    """
    hay = needles.sentences(essay)
    found = []
    for index in range(samples):
        # a string seeds the same way in every process
        dice = random.Random(f"{task} {context} {seed} {index}")
        start = dice.randrange(max(1, len(hay)))
        depth = index / (samples - 1) if samples > 1 else 0.5
        draft = MAKERS[task](dice, depth, hay[start:] + hay[:start], context)
        found.append(fit(draft, tokenizer, context))
    return found
