# SPDX-License-Identifier: Apache-2.0
"""How far a push to the Hub is."""

from html import escape

from app.services.push_state import PushState
from app.ui.components.messages import trouble
from app.ui.format import size


def push_state(state: PushState | None) -> str:
    """Nothing before the first push; then progress, the address, or what went wrong."""
    if state is None:
        return ""
    if state.state == "failed":
        return trouble(state.error, state.hint)
    if state.state == "done":
        address = escape(state.address)
        return f'<p class="check check-good" role="status">It is at <a href="{address}">{address}</a></p>'
    words = f"{escape(state.file)} · " if state.file else ""
    done, total = state.done_bytes, max(1, state.total_bytes)
    return (
        f'<p class="now" role="status">{words}{size(done)} of {size(total)}</p>'
        f'<progress max="{total}" value="{done}" aria-label="push"></progress>'
    )
