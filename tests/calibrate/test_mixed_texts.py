# SPDX-License-Identifier: Apache-2.0
"""Several calibration texts give equal shares, in turn; what is missing or too short is named."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.calibrate.text import text_parts
from core.calibrate.tokens import calibration_windows
from core.errors import TextError


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Three files whose bytes (and so tokens) tell which one it was."""
    paths = {}
    for letter, length in (("a", 1000), ("b", 1000), ("c", 150)):
        file = tmp_path / f"{letter}.txt"
        file.write_text(letter * length)
        paths[letter] = str(file)
    return paths


def letters(windows: Tensor) -> str:
    """One letter per window, by the byte tokenizer's ids; every window is of one text."""
    firsts = windows[:, 0]
    assert (windows == firsts[:, None]).all()
    order = torch.unique(firsts).tolist()
    return "".join("abc"[order.index(one)] for one in firsts.tolist())


def test_texts_take_turns_and_share_equally(files: dict[str, str], tiny_checkpoint: Path) -> None:
    name = f"{files['a']}+{files['b']}"
    assert letters(calibration_windows(tiny_checkpoint, name, 400, 50)) == "abababab"
    # nine windows cannot be halved: the text named first gets the ninth
    assert letters(calibration_windows(tiny_checkpoint, name, 450, 50)) == "ababababa"


def test_a_short_text_limits_the_others(files: dict[str, str], tiny_checkpoint: Path) -> None:
    """Equal shares are what was asked for; 150 tokens are three windows."""
    name = "+".join(files.values())
    assert letters(calibration_windows(tiny_checkpoint, name, 900, 50)) == "abcabcabc"


def test_the_order_of_the_names_is_the_order_of_the_turns(
    files: dict[str, str], tiny_checkpoint: Path
) -> None:
    name = f"{files['b']}+{files['a']}"
    assert letters(calibration_windows(tiny_checkpoint, name, 200, 50)) == "baba"


def test_a_missing_text_is_named(files: dict[str, str], tiny_checkpoint: Path) -> None:
    with pytest.raises(TextError, match="there is no text 'nowhere'"):
        calibration_windows(tiny_checkpoint, f"{files['a']}+nowhere", 400, 50)
    with pytest.raises(TextError, match="there is no text ''"):
        calibration_windows(tiny_checkpoint, f"{files['a']}+", 400, 50)


def test_a_text_that_is_too_short_is_named(files: dict[str, str], tiny_checkpoint: Path) -> None:
    with pytest.raises(TextError, match=r"c\.txt' has 150 tokens, one window needs 200"):
        calibration_windows(tiny_checkpoint, f"{files['a']}+{files['c']}", 800, 200)
    with pytest.raises(TextError, match="100 tokens fill 1 of the 2 windows that 2 texts need"):
        calibration_windows(tiny_checkpoint, f"{files['a']}+{files['b']}", 100, 100)


def test_a_plus_in_a_path_joins_nothing(tmp_path: Path) -> None:
    odd = tmp_path / "c++"
    odd.mkdir()
    (odd / "a+b.txt").write_text("text")
    assert text_parts(str(odd / "a+b.txt")) == (str(odd / "a+b.txt"),)
    assert text_parts(f"news+{odd / 'a+b.txt'}+wikipedia") == ("news", str(odd / "a+b.txt"), "wikipedia")
    assert text_parts("wikipedia+news") == ("wikipedia", "news")


def test_a_seed_draws_windows_from_all_over_the_text(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Every window is one of the text's own, none twice; the first few reach beyond the first few."""
    file = tmp_path / "numbers.txt"
    file.write_text("".join(f"{number:04d} " for number in range(500)))
    whole = calibration_windows(tiny_checkpoint, str(file), 2500, 50)
    assert whole.shape == (50, 50)
    drawn = calibration_windows(tiny_checkpoint, str(file), 1000, 50, seed=0)
    again = calibration_windows(tiny_checkpoint, str(file), 1000, 50, seed=0)
    other = calibration_windows(tiny_checkpoint, str(file), 1000, 50, seed=1)
    assert drawn.equal(again)
    assert not drawn.equal(other)
    places = [int((whole == window).all(dim=1).nonzero()) for window in drawn]
    assert len(set(places)) == 20
    assert max(places) > 40
    assert min(places) < 10


def test_more_tokens_continue_the_same_draw(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """So a longer calibration has read all that a shorter one did, and what is held back is not among it."""
    file = tmp_path / "numbers.txt"
    file.write_text("".join(f"{number:04d} " for number in range(500)))
    few = calibration_windows(tiny_checkpoint, str(file), 500, 50, seed=3)
    many = calibration_windows(tiny_checkpoint, str(file), 1000, 50, seed=3)
    assert many[:10].equal(few)
    assert len(torch.unique(many, dim=0)) == 20
