# SPDX-License-Identifier: Apache-2.0
"""Chains of variables and lists of words: more than finding one sentence (RULER, arXiv 2404.06654)."""

import random
from collections.abc import Sequence
from functools import partial

from core.evaluate.retrieval.needles import NOISE, hide
from core.evaluate.retrieval.question import Draft
from core.evaluate.retrieval.words import names, numbers, variables

# one chain of one start and four steps in RULER; here others of the same form are wrong answers in the text
_CHAINS, _STEPS = 4, 4
_MOST_SENTENCES = 200_000
_LONG = 4096


def variable_tracking(dice: random.Random) -> Draft:
    """Which variables got the value of the first: VAR A = 123, VAR B = VAR A, and so on."""
    length = 1 + _STEPS
    drawn = variables(_CHAINS * length, dice)
    chains = [drawn[start : start + length] for start in range(0, len(drawn), length)]
    values = numbers(_CHAINS, dice, digits=5)
    needles: list[tuple[float, str]] = []
    for chain, value in zip(chains, values, strict=True):
        said = [value, *(f"VAR {one}" for one in chain)]
        depths = sorted(dice.random() for _ in chain)
        lines = (f"VAR {name} = {source}." for name, source in zip(chain, said, strict=False))
        needles += zip(depths, lines, strict=True)
    render = partial(_variables, needles, values[0])
    return Draft(render, _MOST_SENTENCES, tuple(chains[0]), tuple(", ".join(chain) for chain in chains))


def _variables(needles: Sequence[tuple[float, str]], value: str, count: int) -> str:
    return (
        "Follow the variables that are hidden in the following text.\n"
        f"{hide(NOISE, count, needles)}\nWhich variables have the value {value}? "
        f"The {1 + _STEPS} variables with the value {value} are VAR"
    )


def common_words(dice: random.Random, context: int) -> Draft:
    """Which words of a numbered list come most often: 10 of them 30 times, the others 3 times.

    Below 4,096 tokens, where that does not fit, 5 words 10 times and the others twice.
    """
    many, repeats, others = (10, 30, 3) if context >= _LONG else (5, 10, 2)
    # a word of the list, with its number, is three tokens or more
    words = names(5 * many + context // (3 * others), dice)
    common, rare = words[:many], words[many:]
    lists = [common, *(rare[start : start + many] for start in range(0, 3 * many, many))]
    seed = dice.getrandbits(32)
    render = partial(_list, common, repeats, rare, others, seed)
    return Draft(render, len(rare), tuple(common), tuple(", ".join(one) for one in lists))


def _list(
    common: Sequence[str], repeats: int, rare: Sequence[str], others: int, seed: int, count: int
) -> str:
    """`count` rare words, shuffled with the common ones."""
    entries = [*common] * repeats + [*rare[:count]] * others
    random.Random(seed).shuffle(entries)
    listed = " ".join(f"{index}. {word}" for index, word in enumerate(entries, start=1))
    return (
        "Some words come much more often than others in the following list.\n"
        f"{listed}\nWhich {len(common)} words come most often? The {len(common)} most common words are"
    )
