# SPDX-License-Identifier: Apache-2.0
"""The glossary as HTML: every term under its heading, with an address of its own."""

from html import escape

from app.ui.terms import GLOSSARY, Term


def glossary() -> str:
    """All terms, in the order in which a newcomer meets them."""
    return "".join(
        f'<section class="glossary"><h2>{escape(title)}</h2><dl>'
        + "".join(_entry(key, term) for key, term in terms.items())
        + "</dl></section>"
        for title, terms in GLOSSARY.items()
    )


def _entry(key: str, term: Term) -> str:
    paper = f'<cite class="caption">{escape(term.paper)}</cite>' if term.paper else ""
    line = term.line[0].upper() + term.line[1:]
    return f'<div id="{escape(key)}"><dt>{escape(term.name)}</dt><dd>{escape(line)}.{paper}</dd></div>'
