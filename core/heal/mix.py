# SPDX-License-Identifier: Apache-2.0
"""Texts with weights ("wikipedia:0.8,news:0.2"), and which one each window comes from. No torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from core.calibrate.text import NAMED, existing_file
from core.errors import TextError

HUB = "hub:"
# what a name may start with, so that a colon behind it is no weight
_PREFIXES = ("hub", "upload")


@dataclass(frozen=True)
class Source:
    """One text of a mix; shares of a mix add up to 1."""

    name: str
    share: float

    @property
    def is_on_hub(self) -> bool:
        return self.name.startswith(HUB)


def read_mix(text: str) -> tuple[Source, ...]:
    """The texts of `text` with their shares; raises TextError for what is no mix."""
    # a file may have commas and colons in its name
    if existing_file(text) is not None:
        return (Source(text, 1.0),)
    weighed = [_weighed(part.strip()) for part in text.split(",")]
    total = sum(weight for _, weight in weighed)
    return tuple(Source(name, weight / total) for name, weight in weighed)


def write_mix(sources: Sequence[Source]) -> str:
    """What `read_mix` reads the same texts of."""
    if len(sources) == 1:
        return sources[0].name
    return ",".join(f"{source.name}:{source.share:g}" for source in sources)


def _weighed(part: str) -> tuple[str, float]:
    name, colon, number = part.rpartition(":")
    if part in NAMED or existing_file(part) is not None or not colon or name in _PREFIXES:
        name, number = part, "1"
    try:
        weight = float(number)
    except ValueError:
        name, weight = part, 1.0
    if not name or not 0 < weight < float("inf"):
        raise TextError(
            f"'{part[:200]}' is no text with a weight",
            hint="write texts as wikipedia:0.8,news:0.2, weights above 0",
            field="heal.text",
        )
    return name, weight


def turns(shares: Sequence[float]) -> Iterator[int]:
    """Whose turn it is, without end: after n turns every source had its share of n, give or take one."""
    taken = [0] * len(shares)
    for count in _from_one():
        behind = [share * count - had for share, had in zip(shares, taken, strict=True)]
        turn = behind.index(max(behind))
        taken[turn] += 1
        yield turn


def _from_one() -> Iterator[int]:
    count = 0
    while True:
        count += 1
        yield count
