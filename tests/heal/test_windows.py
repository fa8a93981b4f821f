# SPDX-License-Identifier: Apache-2.0
"""Windows: packed, drawn by seed, held back and mixed by weight; what cannot be read is refused."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import TextError
from core.heal.mix import Source, read_mix, turns, write_mix
from core.heal.spec import Healing
from core.heal.windows import Windows, make_windows
from core.weights.tokenizer import load_tokenizer


def windows(base: Path, text: str, steps: int = 4, **fields: Any) -> Windows:
    healing = Healing(source=".", text=text, tokens=10_000, context=64, held_out=4, **fields)
    return make_windows(healing, base, steps, 4)


def rows(found: torch.Tensor) -> set[tuple[int, ...]]:
    return {tuple(row) for row in found.tolist()}


def test_equal_requests_give_equal_windows_and_another_seed_another_order(base: Path, words: Path) -> None:
    one, same = windows(base, str(words)), windows(base, str(words))
    assert torch.equal(one.train, same.train)
    assert torch.equal(one.held_out, same.held_out)
    assert not torch.equal(one.train, windows(base, str(words), seed=1).train)


def test_more_steps_begin_with_the_same_ones(base: Path, words: Path) -> None:
    """The order is a function of seed and number: a longer healing goes on where a short one ended."""
    short, long = windows(base, str(words), 4), windows(base, str(words), 8)
    assert torch.equal(long.train[: len(short.train)], short.train)
    assert torch.equal(long.held_out, short.held_out)


def test_windows_are_pieces_of_the_text_and_none_is_held_back_and_trained_on(base: Path, words: Path) -> None:
    found = windows(base, str(words))
    text = load_tokenizer(base).decode(found.train[3])
    assert text in words.read_text()
    assert len(rows(found.train)) == 16  # none twice
    assert not rows(found.train) & rows(found.held_out)


def test_a_short_text_says_how_much_there_is_and_is_repeated_only_when_asked(base: Path, words: Path) -> None:
    tokens = len(words.read_bytes()) // 64 * 64 - 4 * 64
    epoch = tokens // 64
    steps = 2 * epoch // 4 + 1
    with pytest.raises(TextError, match=f"has {tokens:,} tokens .* {256 * steps:,} are asked") as caught:
        windows(base, str(words), steps=steps)
    assert "repeat" in caught.value.hint
    again = windows(base, str(words), steps=steps, repeat=True)
    first, second = again.train[:epoch], again.train[epoch : 2 * epoch]
    assert rows(first) == rows(second)
    assert not torch.equal(first, second)
    assert not rows(again.train) & rows(again.held_out)


def test_a_mix_gives_each_text_its_share(base: Path, words: Path, tmp_path: Path) -> None:
    other = tmp_path / "numbers.txt"
    other.write_text(" ".join(str(number**3) for number in range(900)))
    found = windows(base, f"{words}:3,{other}:1", steps=8)
    decode = load_tokenizer(base).decode
    from_other = [decode(row) in other.read_text() for row in found.train]
    assert sum(from_other) == 32 // 4
    assert sum(from_other[:8]) == 2  # and throughout, not at the end
    assert sum(decode(row) in other.read_text() for row in found.held_out) == 1


def test_records_are_joined_by_the_end_of_text_and_read_no_further_than_needed(
    base: Path, tmp_path: Path
) -> None:
    file = tmp_path / "records.jsonl"
    lines = [json.dumps({"body": f"record number {index} says something"}) for index in range(200)]
    file.write_text("\n".join([*lines, "this line is not JSON"]))
    found = windows(base, str(file), text_field="body", steps=2)
    eos = load_tokenizer(base).eos_token_id
    assert all(eos in row for row in found.train.tolist())


@pytest.mark.parametrize(
    ("text", "words_of_it"),
    [
        ("nothing-there", "there is no text"),
        ("python-docs:0", "no text with a weight"),
        ("hub:some/data", "package datasets is not installed"),
        ("{folder}/bad.jsonl", "line 1 .* is not JSON"),
        ("{folder}/other.jsonl", "has no text 'text'"),
        ("{folder}/table.parquet", "package pyarrow is not installed"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(
    base: Path, tmp_path: Path, text: str, words_of_it: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.jsonl").write_text("nonsense")
    (tmp_path / "other.jsonl").write_text('{"body": "words"}')
    (tmp_path / "table.parquet").write_bytes(b"PAR1")
    # whether these packages are there depends on the machine
    missing = {"datasets", "pyarrow"}
    find = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in missing else find(name))
    with pytest.raises(TextError, match=words_of_it):
        windows(base, text.format(folder=tmp_path))


def test_a_mix_is_read_as_it_was_written() -> None:
    mix = read_mix("wikipedia:3,news:1")
    assert mix == (Source("wikipedia", 0.75), Source("news", 0.25))
    assert read_mix(write_mix(mix)) == mix
    assert read_mix("hub:owner/name")[0] == Source("hub:owner/name", 1.0)
    assert read_mix("upload:letters")[0] == Source("upload:letters", 1.0)


def test_after_any_number_of_turns_each_source_had_its_share_to_within_one() -> None:
    shares = (0.5, 0.3, 0.2)
    order = list(islice(turns(shares), 200))
    for count in range(1, 201):
        for index, share in enumerate(shares):
            assert abs(order[:count].count(index) - share * count) <= 1 + 1e-9
