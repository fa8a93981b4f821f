# SPDX-License-Identifier: Apache-2.0
"""An answer is what transformers itself would generate, and its costs are counted on its own cache."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.chat import answer as answer_module
from core.chat.answer import Answer, Speaker
from core.chat.choosing import Chooser
from core.chat.naming import PROCESS_BYTES, folder_of, weight_bytes
from core.chat.prompt import prompt_tokens
from core.chat.shelf import NoRoomError, Shelf
from core.errors import ModelError, TextError
from core.evaluate.load import load_model
from core.settings import Settings
from core.weights.tokenizer import load_tokenizer

HELLO = [{"role": "user", "content": "hello there"}]
GREEDY = (0.0, 1.0, 0)
TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}<assistant>"


@pytest.fixture(scope="module")
def speaker(tiny_checkpoint: Path) -> Speaker:
    model: Any = load_model(tiny_checkpoint, dtype=None, device="cpu")
    return Speaker(model, load_tokenizer(tiny_checkpoint))


def spoken(speaker: Speaker, chooser: Chooser, tokens: int = 24, prompt: str = "hello there") -> Answer:
    one = Answer(speaker, [{"role": "user", "content": prompt}], chooser, tokens)
    while not one.ending:
        one.step()
    return one


def test_greedy_answers_are_those_of_generate(speaker: Speaker) -> None:
    ids = torch.tensor([prompt_tokens(speaker.tokenizer, HELLO)])
    with torch.no_grad():
        usual = speaker.model.generate(ids, max_new_tokens=24, do_sample=False)[0, ids.shape[1] :]
    expected = speaker.tokenizer.decode(usual, skip_special_tokens=True)
    assert spoken(speaker, Chooser(*GREEDY)).text == expected


def test_a_long_prompt_read_in_pieces_gives_the_same_answer(
    speaker: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces change float32 sums in their last bits only, which greedy choices of this model survive."""
    prompt = "a long question, " * 8
    whole = spoken(speaker, Chooser(*GREEDY), prompt=prompt).text
    monkeypatch.setattr(answer_module, "CHUNK", 7)
    assert spoken(speaker, Chooser(*GREEDY), prompt=prompt).text == whole


def test_equal_seeds_give_equal_text_and_others_do_not(speaker: Speaker) -> None:
    texts = [spoken(speaker, Chooser(1.0, 0.95, seed)).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_the_cache_is_measured_and_agrees_with_the_formula_at_every_step(speaker: Speaker) -> None:
    one = Answer(speaker, HELLO, Chooser(*GREEDY), 6)
    seen = []
    while not one.ending:
        one.step()
        numbers = one.numbers
        assert numbers["kv_bytes"] == numbers["cached_tokens"] * speaker.kv_bytes_per_token
        seen.append(numbers["kv_bytes"])
    assert seen == sorted(set(seen)), "it grows with every token"
    # the last token was written but not read
    assert one.numbers["cached_tokens"] == one.prompt_tokens + one.numbers["tokens"] - 1
    assert one.numbers["prompt_seconds"] > 0
    assert one.seconds == one.prompt_seconds + one.decode_seconds


def test_a_conversation_longer_than_the_context_is_refused_with_both_numbers(speaker: Speaker) -> None:
    with pytest.raises(TextError, match=r"600 tokens.*context ends at 512"):
        Answer(speaker, [{"role": "user", "content": "x" * 600}], Chooser(*GREEDY), 5)
    nearly = spoken(speaker, Chooser(*GREEDY), 50, prompt="x" * 500)
    assert nearly.ending == "context"
    assert nearly.numbers["tokens"] == 12


def test_the_models_own_template_writes_the_prompt(tiny_checkpoint: Path) -> None:
    tokenizer = load_tokenizer(tiny_checkpoint)
    plain = prompt_tokens(tokenizer, HELLO)
    assert tokenizer.decode(plain) == "hello there"
    tokenizer.chat_template = TEMPLATE
    assert tokenizer.decode(prompt_tokens(tokenizer, HELLO)) == "<user>hello there<assistant>"


def test_a_template_that_refuses_says_so(tiny_checkpoint: Path) -> None:
    tokenizer = load_tokenizer(tiny_checkpoint)
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(TextError, match="roles must alternate"):
        prompt_tokens(tokenizer, HELLO)


def test_half_a_character_waits_for_its_other_bytes(speaker: Speaker) -> None:
    one = Answer(speaker, HELLO, Chooser(*GREEDY), 50)
    first, *rest = speaker.tokenizer("é")["input_ids"]
    one._written = [first]
    assert one.text == ""
    one._written = [first, *rest]
    assert one.text == "é"


def test_only_the_nucleus_is_chosen_from() -> None:
    """Chances 0.6, 0.3, 0.1: top_p 0.5 leaves the first, 0.7 two, 1 all; 400 draws miss none of them."""
    logits = torch.tensor([0.6, 0.3, 0.1]).log()
    for top_p, expected in ((0.5, {0}), (0.7, {0, 1}), (1.0, {0, 1, 2})):
        chooser = Chooser(1.0, top_p, 0)
        assert {chooser.choose(logits) for _ in range(400)} == expected


def test_draws_follow_the_chances() -> None:
    """4,000 draws of 0.6, 0.3, 0.1: four standard deviations of the largest share are 0.031."""
    logits, chooser = torch.tensor([0.6, 0.3, 0.1]).log(), Chooser(1.0, 1.0, 0)
    drawn = torch.tensor([chooser.choose(logits) for _ in range(4000)]).bincount(minlength=3) / 4000
    assert (drawn - logits.exp()).abs().max() < 0.031


def test_equal_seeds_differ_only_where_the_models_do() -> None:
    """Noise is per word: nearly equal models choose the same token nearly always, a shifted one rarely."""
    torch.manual_seed(0)
    logits = 3 * torch.randn(200, 50)
    near, far = logits + 0.01 * torch.randn_like(logits), logits.roll(1, dims=1)

    def chosen(rows: torch.Tensor) -> list[int]:
        chooser = Chooser(1.0, 1.0, 3)
        return [chooser.choose(row) for row in rows]

    def agreement(rows: torch.Tensor) -> float:
        return sum(a == b for a, b in zip(chosen(logits), chosen(rows), strict=True)) / len(logits)

    assert agreement(near) > 0.95
    assert agreement(far) < 0.3


@pytest.fixture
def two(tiny_llama: Callable[..., Path]) -> tuple[str, str, int]:
    """Two checkpoints of the same size."""
    one, other = tiny_llama(), tiny_llama()
    return str(one), str(other), weight_bytes(one)


def test_weights_are_counted_from_headers(two: tuple[str, str, int]) -> None:
    model: Any = load_model(Path(two[0]), dtype=None, device="cpu")
    assert two[2] == sum(one.numel() * one.element_size() for one in model.parameters())


def test_the_shelf_lets_go_of_the_model_unused_for_longest(two: tuple[str, str, int], tmp_path: Path) -> None:
    one, other, need = two
    shelf = Shelf(Settings(data_dir=tmp_path), PROCESS_BYTES + need * 3 // 2, torch.device("cpu"))
    first = shelf.get(one, ())
    assert shelf.get(one, ()) is first, "loaded once"
    assert shelf.must_wait(other, {one}), "the other is in use: there is no room beside it"
    assert not shelf.must_wait(other, ())
    shelf.get(other, ())
    assert shelf.held == {other: need}


def test_the_shelf_keeps_what_fits(two: tuple[str, str, int], tmp_path: Path) -> None:
    one, other, need = two
    shelf = Shelf(Settings(data_dir=tmp_path), PROCESS_BYTES + need * 2, torch.device("cpu"))
    shelf.get(one, ())
    shelf.get(other, {one})
    shelf.get(one, ())
    assert list(shelf.held) == [other, one], "the one used last is the last to go"


def test_a_model_that_was_written_anew_is_read_anew(two: tuple[str, str, int], tmp_path: Path) -> None:
    copy = shutil.copytree(two[0], tmp_path / "model")
    shelf = Shelf(Settings(data_dir=tmp_path), PROCESS_BYTES + two[2], torch.device("cpu"))
    first = shelf.get(str(copy), ())
    os.utime(copy / "model.safetensors", ns=(1, 1))
    assert shelf.get(str(copy), {str(copy)}) is first, "not while it speaks"
    assert shelf.get(str(copy), ()) is not first


def test_a_model_that_can_never_fit_is_refused_before_it_is_read(
    two: tuple[str, str, int], tmp_path: Path
) -> None:
    shelf = Shelf(Settings(data_dir=tmp_path), PROCESS_BYTES + two[2] - 1, torch.device("cpu"))
    with pytest.raises(NoRoomError, match=two[0]) as caught:
        shelf.must_wait(two[0], ())
    assert "MLA_CHAT_MEMORY_GB" in caught.value.hint


def test_a_job_without_a_result_is_named(tmp_path: Path) -> None:
    for name in ("job:nothere", "job:../../etc"):
        with pytest.raises(ModelError, match="no result"):
            folder_of(name, Settings(data_dir=tmp_path))


def test_the_cache_of_an_answer_is_its_own(speaker: Speaker) -> None:
    """Two answers of one model at once, a step each in turn, are those each would give alone."""
    alone = [spoken(speaker, Chooser(*GREEDY), 8, prompt).text for prompt in ("hello", "goodbye")]
    both = [
        Answer(speaker, [{"role": "user", "content": one}], Chooser(*GREEDY), 8)
        for one in ("hello", "goodbye")
    ]
    while not all(one.ending for one in both):
        for one in both:
            if not one.ending:
                one.step()
    assert [one.text for one in both] == alone
