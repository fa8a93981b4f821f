# SPDX-License-Identifier: Apache-2.0
"""The texts: the named ones are there, clean, and never overlap; files are read or refused."""

import re
from pathlib import Path

import pytest

from core.calibrate.text import NAMED, read_text
from core.calibrate.tokens import calibration_windows, tokenize
from core.errors import TextError
from core.spec import Calibration, Evaluation


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Every named text, read once."""
    return {name: read_text(name) for name in NAMED}


@pytest.mark.parametrize("name", NAMED)
def test_every_named_text_is_there_and_long_enough_to_use(name: str, texts: dict[str, str]) -> None:
    assert len(texts[name].split()) > 20_000
    assert NAMED[name][0]


def test_the_defaults_are_named_texts_and_differ() -> None:
    assert Calibration().text in NAMED
    assert Evaluation().text in NAMED
    assert Calibration().text != Evaluation().text


def test_no_article_is_both_calibrated_on_and_held_out(texts: dict[str, str]) -> None:
    """By paragraph: anything longer than a line that occurs in both would flatter the result."""
    first, second = (
        {part for part in texts[name].splitlines() if len(part) > 100}
        for name in ("wikipedia", "wikipedia-heldout")
    )
    assert len(first) > 500
    assert len(second) > 200
    assert not first & second


# what one sees of wiki source in prose: links, templates, tables, references, bold
MARKUP = re.compile(r"\[\[|\]\]|\{\{|\}\}|\{\||\|\}|<ref|</|'''|^==|&nbsp;|__TOC__", flags=re.M)


@pytest.mark.parametrize("name", ["wikipedia", "wikipedia-heldout"])
def test_wiki_markup_is_stripped(name: str, texts: dict[str, str]) -> None:
    """A remainder is tolerated where the source itself is unbalanced: one per 100,000 characters."""
    left = MARKUP.findall(texts[name])
    assert len(left) <= len(texts[name]) / 100_000, left[:20]


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("Grüße, 世界\n", encoding="utf-8")
    assert read_text(str(file)) == "Grüße, 世界\n"


@pytest.mark.parametrize("name", ["", "no-such-text", "/", "~nobody-here/x", "x" * 5000, "a\0b"])
def test_a_text_that_is_not_there_is_refused_with_what_there_is(name: str) -> None:
    with pytest.raises(TextError, match="there is no text") as caught:
        read_text(name)
    assert all(known in caught.value.hint for known in NAMED)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b" \n\t\n", "is empty"), (b"\x80\x02}q\x00.", "not UTF-8"), (b"a\0b", "binary")],
)
def test_a_file_that_is_no_text_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    with pytest.raises(TextError, match=message) as caught:
        read_text(str(file))
    assert caught.value.hint


def test_windows_without_a_seed_start_at_the_beginning_and_do_not_overlap(
    tiny_checkpoint: Path, sample_text: Path
) -> None:
    """The byte tokenizer gives one token per byte, so the windows are the text."""
    windows = calibration_windows(tiny_checkpoint, str(sample_text), 1000, 64)
    assert windows.shape == (15, 64)  # 1000 tokens hold 15 whole windows
    whole = tokenize(tiny_checkpoint, read_text(str(sample_text)))
    assert windows.flatten().equal(whole[: 15 * 64])


def test_a_text_shorter_than_one_window_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("only a few words")
    with pytest.raises(TextError, match="has 16 tokens, one window needs 64"):
        calibration_windows(tiny_checkpoint, str(short), 1000, 64)
