# SPDX-License-Identifier: Apache-2.0
"""Buttons inside a table, told apart by what they do and to which row; static/actions.js passes them on.

A row is drawn anew whenever it changes; the script keeps the keyboard's place and asks before what cannot
be undone.
"""

from html import escape
from typing import Any

import gradio as gr


def acting(elem_id: str, value: str = "") -> gr.HTML:
    """HTML whose buttons trigger its `click`; the handler reads `verb` and `row` from the event."""
    return gr.HTML(value, js_on_load="mlaActions(element, trigger, watch)", elem_id=elem_id)


def action(verb: str, row: str, title: str, about: str, *, confirm: str = "") -> str:
    """A button. `about` completes its title for those who hear the page; `confirm` is asked first."""
    question = f' data-confirm="{escape(confirm)}"' if confirm else ""
    return (
        f'<button type="button" class="act" data-verb="{escape(verb)}" data-row="{escape(row)}"{question} '
        f'aria-label="{escape(f"{title} {about}")}">{escape(title)}</button>'
    )


def acted(event: gr.EventData) -> tuple[str, str]:
    """(verb, row) of the button that was pressed; two empty words for a click beside the buttons."""
    data: Any = event._data
    said = data if isinstance(data, dict) else {}
    return str(said.get("verb", "")), str(said.get("row", ""))
