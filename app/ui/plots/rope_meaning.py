# SPDX-License-Identifier: Apache-2.0
"""What the heatmap of rotary pairs shows: recipes score heads or mixed components, in different units."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Meaning:
    """What one row of scores is, what its values are called, and the line above the plot."""

    row: str
    rows: str
    value: str
    bar: str
    caption: str
    drops: bool = True
    about: str = ""
    # what is said of a pair where nothing is dropped
    idle: str = "exact"


_SIZE = "How much each rotary pair contributes to the attention scores, measured on the calibration text."
MEANINGS: Mapping[str, Meaning] = {
    "contribution": Meaning(
        "KV head", "KV heads", "contribution", "E|q|·E|k|", f"{_SIZE} Outlined pairs keep their rotation."
    ),
    "energy": Meaning(
        "KV head",
        "KV heads",
        "logit energy",
        "logit energy",
        "How much of the attention logits the rotation of each pair carries, measured on the calibration "
        "text. Outlined pairs keep their rotation.",
    ),
    "components": Meaning(
        "Component",
        "components",
        "logit energy",
        "logit energy",
        "The KV heads were mixed into components that all heads share. Colour is how much of the attention "
        "logits their rotation carries; outlined ones keep it.",
        # folded pairs turn together, at one frequency among theirs
        about="about ",
    ),
    "exact": Meaning(
        "KV head",
        "KV heads",
        "contribution",
        "E|q|·E|k|",
        f"Every pair stays exact in this layout: nothing is dropped. {_SIZE}",
        drops=False,
    ),
    # from a profile: nothing is chosen yet
    "profile-contribution": Meaning(
        "KV head",
        "KV heads",
        "contribution",
        "E|q|·E|k|",
        f"{_SIZE} An upper bound: mean length in the queries times mean length in the keys.",
        drops=False,
        idle="2-norm",
    ),
    "profile-damage": Meaning(
        "Row",
        "rows",
        "logit damage",
        "logit energy",
        "What the attention logits lose when a pair stops turning, measured on the calibration text. Rows "
        "are the components that heads are mixed into, else KV heads.",
        drops=False,
        about="about ",
        idle="logit damage",
    ),
}


def meaning_of(data: Mapping[str, Any]) -> Meaning:
    """What the figure shows; jobs of before recipes could mix heads do not say."""
    return MEANINGS.get(str(data.get("meaning")), MEANINGS["contribution"])
