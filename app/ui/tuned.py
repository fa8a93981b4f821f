# SPDX-License-Identifier: Apache-2.0
"""What was set by hand in the tuning view, as the browser keeps it: ranks and locks, and kept pairs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Pairs = list[list[list[int]]]


def untouched() -> dict[str, Any]:
    """Both before anybody touched them: the slider sets the ranks, the rule of the recipe chooses pairs."""
    return {"layers": by_slider(), "pairs": by_rule()}


def by_slider() -> dict[str, Any]:
    """No rank is set by hand, no layer is locked."""
    return {"ranks": None, "locked": []}


def by_rule() -> dict[str, Any]:
    """No pair is chosen by hand."""
    return {"kept": None}


def ranks_of(value: Any) -> list[int] | None:
    """The edited ranks in what a browser sent; None when there are none."""
    found = value.get("ranks") if isinstance(value, Mapping) else None
    return [int(one) for one in found] if isinstance(found, list) and found else None


def locked_of(value: Any) -> dict[int, int]:
    """Locked layers and the ranks they stay at."""
    ranks = ranks_of(value) or []
    locked = value.get("locked") if isinstance(value, Mapping) else None
    return {int(layer): ranks[int(layer)] for layer in locked or [] if 0 <= int(layer) < len(ranks)}


def pairs_of(value: Any) -> Pairs | None:
    """The kept pairs that were edited: layers x rows x pairs; None when there are none."""
    found = value.get("kept") if isinstance(value, Mapping) else None
    if not isinstance(found, list) or not found:
        return None
    return [[[int(pair) for pair in row] for row in rows] for rows in found]


def of_ranks(ranks: Sequence[int] | None, locked: Iterable[int] = ()) -> dict[str, Any]:
    """What the layer bars hold of `ranks`."""
    return {"ranks": [*ranks], "locked": sorted(locked)} if ranks else by_slider()


def of_pairs(pairs: Sequence[Sequence[Sequence[int]]] | None) -> dict[str, Any]:
    """What the pair heatmap holds of `pairs`."""
    return {"kept": [[[*row] for row in rows] for rows in pairs]} if pairs else by_rule()
