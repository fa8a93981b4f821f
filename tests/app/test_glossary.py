# SPDX-License-Identifier: Apache-2.0
"""Every term is explained once: what hovers says is what the glossary says."""

import re
from pathlib import Path

from app.ui.components.chips import term
from app.ui.components.glossary import glossary
from app.ui.terms import GLOSSARY, TERMS

UI = Path(__file__).parents[2] / "app" / "ui"
# term("word", "key") and (word, "key"): the key is the last string before the bracket closes
_USED = re.compile(r'\bterm\([^()]*?"(\w+)"\)')


def test_every_term_a_page_uses_is_in_the_glossary() -> None:
    used = {key for file in UI.rglob("*.py") for key in _USED.findall(file.read_text(encoding="utf-8"))}
    assert {"kv", "kl", "perplexity"} <= used, "the pattern no longer finds what pages use"
    assert used <= set(TERMS)


def test_a_term_hovers_and_leads_to_its_own_line() -> None:
    """The address ends in the id of the entry, so that a touch screen gets there, too."""
    assert 'href="/glossary#kl"' in term("KL", "kl")
    assert TERMS["kl"] in term("KL", "kl")
    page = glossary()
    for key in TERMS:
        assert f'id="{key}"' in page
        assert page.count(f'id="{key}"') == 1


def test_an_explanation_is_one_line_and_names_its_paper_as_a_section() -> None:
    """One line: up to 200 characters. A paper is named with where to look, allocation's excepted."""
    for terms in GLOSSARY.values():
        for key, one in terms.items():
            assert len(one.line) <= 200, key
            assert not one.line.endswith("."), key
            assert not one.paper or "section" in one.paper or key == "allocate", key
