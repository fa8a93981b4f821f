# SPDX-License-Identifier: Apache-2.0
"""What is wrong and how to fix it, in one box beside the thing it concerns."""

from html import escape

from core.errors import WorkbenchError
from core.facts import Problem


def problem(one: Problem | None) -> str:
    """The box of a problem; nothing when there is none."""
    return trouble(one.message, one.hint) if one else ""


def failure(error: WorkbenchError) -> str:
    """The box of an error."""
    return trouble(error.message, error.hint)


def trouble(message: str, hint: str) -> str:
    """Message and fix."""
    fix = f'<span class="fix">{escape(hint)}</span>' if hint else ""
    return f'<div class="trouble" role="alert"><strong>{escape(message)}</strong>{fix}</div>'


def empty(sentence: str) -> str:
    """What an empty place teaches."""
    return f'<p class="empty">{escape(sentence)}</p>'
