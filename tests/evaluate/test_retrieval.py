# SPDX-License-Identifier: Apache-2.0
"""Questions are as long, and hide their needle as deep, as asked; the same seed asks the same."""

import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from core.evaluate import load_model
from core.evaluate.retrieval import MAKERS, Question, ask, make_questions, string_match
from core.evaluate.retrieval.needles import NOISE, hide, sentences
from core.evaluate.retrieval.tracking import common_words, variable_tracking
from core.weights.tokenizer import load_tokenizer

# the tiny tokenizer knows bytes: a context holds that many characters
CONTEXT = 3_000


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> Any:
    return load_tokenizer(tiny_checkpoint)


@pytest.fixture(scope="module")
def essay(sample_text: Path) -> str:
    return sample_text.read_text(encoding="utf-8")


def questions(task: str, tokenizer: Any, essay: str, samples: int = 3, seed: int = 0) -> list[Question]:
    return make_questions(task, tokenizer, CONTEXT, samples, seed, essay)


@pytest.fixture(scope="module", params=MAKERS)
def asked(request: pytest.FixtureRequest, tokenizer: Any, essay: str) -> list[Question]:
    """Three questions of every task."""
    return questions(request.param, tokenizer, essay)


def test_a_prompt_is_as_long_as_asked(asked: list[Question], essay: str) -> None:
    """With the room for its answer it fits; one more unit of hay, a sentence or a few words, would not."""
    unit = max(len(one) for one in (*sentences(essay), *NOISE)) + 1
    for one in asked:
        assert CONTEXT - max(unit, 120) <= len(one.ids) + one.room <= CONTEXT


def test_every_answer_stands_in_the_text_and_the_right_choice_is_one_of_them(
    asked: list[Question], tokenizer: Any
) -> None:
    for one in asked:
        prompt = tokenizer.decode(one.ids)
        assert string_match(prompt, one.answers) == 1
        choices = [tokenizer.decode(choice).strip() for choice in one.choices]
        assert len(set(choices)) == len(choices)
        assert string_match(choices[0], one.answers) > 0
        assert all(string_match(wrong, one.answers) == 0 for wrong in choices[1:])


@pytest.mark.parametrize("task", ["single-noise", "single-essay", "multikey-needles"])
def test_needles_go_evenly_from_front_to_back(task: str, tokenizer: Any, essay: str) -> None:
    """At the depth asked for, measured on the prompt, to the longest sentence that stands in it."""
    found = questions(task, tokenizer, essay, samples=5)
    assert [one.depth for one in found] == [0, 0.25, 0.5, 0.75, 1]
    for one in found:
        prompt = tokenizer.decode(one.ids)
        hay = prompt.split("\n", 1)[1].rsplit("\n", 1)[0]
        needle = re.search(rf"One of the secret numbers of \S+ is {one.answers[0]}\.", hay)
        assert needle is not None
        place = needle.start() / (len(hay) - len(needle[0]))
        # between the two sentences that are nearest, so within half of the longer one
        longest = max(len(unit) for unit in re.split(r"(?<=[.!?]) ", hay))
        assert place == pytest.approx(one.depth, abs=(longest / 2 + 2) / (len(hay) - len(needle[0])))


def test_the_same_seed_asks_the_same(tokenizer: Any, essay: str) -> None:
    first, again = (questions("multikey", tokenizer, essay) for _ in range(2))
    assert first == again
    assert questions("multikey", tokenizer, essay, seed=1) != first
    assert len({one.answers for one in first}) == len(first), "samples must differ"


def test_needles_are_hidden_in_order_of_their_depth() -> None:
    assert hide(["a", "b"], 4, [(1.0, "Z"), (0.0, "X"), (0.5, "Y")]) == "X a b Y a b Z"


def test_a_chain_can_be_followed_to_its_value() -> None:
    """Reading the statements in order gives the variables that are asked for, and no others."""
    draft = variable_tracking(random.Random(3))
    prompt = draft.render(30)
    values: dict[str, str] = {}
    for name, source in re.findall(r"VAR (\w+) = ((?:VAR )?\w+)\.", prompt):
        values[name] = values[source.removeprefix("VAR ")] if source.startswith("VAR ") else source
    asked = re.search(r"Which variables have the value (\d+)\?", prompt)
    assert asked is not None
    assert {name for name, value in values.items() if value == asked[1]} == set(draft.answers)
    assert len(values) == 20


@pytest.mark.parametrize(("context", "many", "repeats", "others"), [(1024, 5, 10, 2), (4096, 10, 30, 3)])
def test_common_words_come_as_often_as_said(context: int, many: int, repeats: int, others: int) -> None:
    draft = common_words(random.Random(3), context)
    listed = re.findall(r"\d+\. (\S+)", draft.render(20))
    counts = {word: listed.count(word) for word in listed}
    assert {word for word, count in counts.items() if count == repeats} == set(draft.answers)
    assert len(draft.answers) == many
    assert sorted(counts.values())[:20] == [others] * 20


def test_a_share_of_the_answers_is_a_share_of_the_score() -> None:
    assert string_match("It was Alpha, then 42.", ["alpha", "42", "43", "beta"]) == 0.5


@pytest.mark.parametrize("length", [600, 1500])
@torch.no_grad()
def test_choices_and_words_are_those_of_the_whole_text(length: int, tiny_checkpoint: Path) -> None:
    """Against logits without a cache: losses of the choices, and the most likely token over and over.

    1,500 tokens are read in two pieces.
    """
    model = load_model(tiny_checkpoint, dtype=torch.float32, device="cpu")
    tokenizer = load_tokenizer(tiny_checkpoint)
    dice = torch.Generator().manual_seed(length)
    ids = torch.randint(0, 256, (length,), generator=dice).tolist()
    choices = tuple(tuple(torch.randint(0, 256, (n,), generator=dice).tolist()) for n in (3, 1, 5))
    losses = []
    for choice in choices:
        log_p = model(torch.tensor([[*ids, *choice]])).logits[0].double().log_softmax(-1)
        losses.append(
            -sum(float(log_p[length - 1 + i, token]) for i, token in enumerate(choice)) / len(choice)
        )
    written: list[int] = []
    for _ in range(4):
        written.append(int(model(torch.tensor([[*ids, *written]])).logits[0, -1].argmax()))
    best = losses.index(min(losses))
    for right in range(3):
        turned = (choices[right], *(c for index, c in enumerate(choices) if index != right))
        found = ask(model, tokenizer, Question(tuple(ids), ("x",), turned, 4, None))
        assert found.is_chosen == (right == best)
        assert found.written == tokenizer.decode(written, skip_special_tokens=True)
