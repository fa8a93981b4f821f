# SPDX-License-Identifier: Apache-2.0
"""The conversations there were: each opens with a click, goes on with the next prompt, and can be deleted."""

from collections.abc import Mapping, Sequence
from html import escape

from app.ui.components.actions import action
from app.ui.components.tables import framed
from app.ui.format import ago, integer
from core.store.chat_views import Conversation

# enough to know it again; the rest is in the conversation
_LETTERS = 120


def chat_table(found: Sequence[Conversation], total: int, labels: Mapping[str, str], current: str) -> str:
    """Newest first; `labels` says what a model is called, `current` is the one that is open."""
    rows = "".join(_row(one, labels, one.session == current) for one in found)
    more = (
        f'<p class="caption">{len(found)} of {integer(total)}, newest first</p>' if total > len(found) else ""
    )
    head = "<tr><th>began with</th><th>prompts</th><th>last</th><th></th></tr>"
    return framed("jobs conversations", rows, head=head) + more


def _row(one: Conversation, labels: Mapping[str, str], is_open: bool) -> str:
    prompt = " ".join(one.prompt.split())
    short = prompt if len(prompt) <= _LETTERS else f"{prompt[:_LETTERS]}…"
    who = " · ".join(labels.get(model, model) for model in one.models)
    here = ' aria-current="true"' if is_open else ""
    at = one.updated_at.isoformat(timespec="seconds")
    answers = "the answer" if len(one.models) == 1 else "its answers"
    question = f"Delete the conversation “{short}” with {answers}? It cannot be read again."
    button = action("delete-conversation", one.session, "Delete", f"conversation {short}", confirm=question)
    return (
        f'<tr{here}><th scope="row"><a href="/chat?session={escape(one.session)}">{escape(short)}</a>'
        f"<small>{escape(who)}</small></th>"
        f'<td data-label="prompts">{one.turns}</td>'
        f'<td class="when"><time datetime="{at}" title="{at}">{ago(one.updated_at)}</time></td>'
        f'<td class="acts">{button}</td></tr>'
    )
