# SPDX-License-Identifier: Apache-2.0
"""Small marks: where a number comes from, which state a job is in, what a term means."""

from html import escape

from app.ui.strings import STATE_TONES, STATE_WORDS
from app.ui.terms import TERMS
from core.store.views import State


def source(kind: str) -> str:
    """The chip beside a number: measured, calculated, predicted or paper."""
    return (
        f'<span class="chip chip-{escape(kind)}" title="{escape(TERMS.get(kind, ""))}">{escape(kind)}</span>'
    )


def state(value: State) -> str:
    """The word of a state in its tone."""
    return f'<span class="state state-{STATE_TONES[value]}">{STATE_WORDS[value]}</span>'


def term(word: str, key: str) -> str:
    """A word that explains itself on hover, and leads to its line in the glossary."""
    return f'<a class="term" href="/glossary#{escape(key)}" title="{escape(TERMS[key])}">{escape(word)}</a>'
