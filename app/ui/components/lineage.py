# SPDX-License-Identifier: Apache-2.0
"""Where a request comes from: the job it is a clone of, and what sets it apart from that."""

from collections.abc import Sequence
from html import escape
from typing import Any

from app.services.spec_diff import SpecChange
from app.ui.strings import CLONED_ALIKE, RECIPE_TITLES, UNSEEN

# what is set for every layer is a number of values, not a line of them
_LONGEST = 48
_WORDS = {"None": "not set", "True": "yes", "False": "no"}


def cloned_from(parent_id: str, changes: Sequence[SpecChange] | None) -> str:
    """One line, and one for each field that differs; `changes` is None while there is no valid request."""
    link = f'<a href="/jobs/{escape(parent_id)}">{escape(parent_id)}</a>'
    if changes is None:
        return f'<p class="lineage">Cloned from {link}.</p>'
    if not changes:
        return f'<p class="lineage">Cloned from {link}: {CLONED_ALIKE}</p>'
    return _changes(f"Cloned from {link}, differs in:", changes)


def unseen(changes: Sequence[SpecChange]) -> str:
    """What a recipe has set that no box shows; nothing when there is none."""
    return _changes(UNSEEN, changes) if changes else ""


def _changes(head: str, changes: Sequence[SpecChange]) -> str:
    rows = "".join(_row(one) for one in changes)
    return f'<div class="lineage"><p>{head}</p><dl class="changes">{rows}</dl></div>'


def _row(change: SpecChange) -> str:
    name = f'<dt title="{escape(change.path)}">{escape(_title(change.path))}</dt>'
    before, after = _value(change.before), _value(change.after)
    return (
        f'<div>{name}<dd><span class="before">{before}</span><span class="arrow">→</span>'
        f'<span class="after">{after}</span></dd></div>'
    )


def parent_gone(parent_id: str) -> str:
    """The line of a clone whose original was deleted."""
    return f'<p class="lineage">Cloned from {escape(parent_id)}, which was deleted since.</p>'


def _title(path: str) -> str:
    """The label of its box; what has none goes by its name in a recipe."""
    part, _, name = path.rpartition(".")
    return RECIPE_TITLES.get(name, name) if part == "recipe" else path.replace(".", " ").replace("_", " ")


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} layers by hand"
    text = _WORDS.get(str(value), f"{value:g}" if isinstance(value, float) else str(value))
    if len(text) <= _LONGEST:
        return escape(text)
    return f'<span title="{escape(text)}">{escape(text[: _LONGEST - 1])}…</span>'
