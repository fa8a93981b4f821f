# SPDX-License-Identifier: Apache-2.0
"""Whether a text was seen before is found in its words, not in its name."""

import pytest

from core.calibrate.text import read_text
from core.overlap import WORDS, shared_share


def words(first: int, count: int) -> str:
    return " ".join(f"word{number}" for number in range(first, first + count))


@pytest.mark.parametrize(
    ("seen", "held_out", "share"),
    [
        (words(0, 100), words(200, 100), 0.0),
        (words(0, 100), words(0, 100).upper().replace(" ", "\n"), 1.0),
        # of 38 runs of 13 words in 50 words, 8 lie in the 20 words that both have
        (words(0, 100), words(80, 50), 8 / 38),
        (words(0, WORDS - 1), words(0, WORDS - 1), 0.0),
    ],
    ids=["nothing", "all, however it is set", "a part", "too short for a run"],
)
def test_the_share_is_that_of_runs_that_stand_in_both(seen: str, held_out: str, share: float) -> None:
    assert shared_share(seen, held_out) == share


def test_the_named_texts_that_are_held_out_share_next_to_nothing_with_those_for_calibration() -> None:
    """What the default figures rest on; articles quote the same licences and tables, so not quite nothing."""
    seen = read_text("wikipedia")
    assert shared_share(seen, read_text("wikipedia-heldout")) < 0.01
    assert shared_share(seen, read_text("news")) == 0
    assert shared_share(seen, seen) == 1
