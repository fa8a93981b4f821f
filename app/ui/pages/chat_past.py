# SPDX-License-Identifier: Apache-2.0
"""The conversations of before, folded under the models on the chat page."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.services import chat
from app.services.errors import NotFoundError
from app.services.workbench import Workbench
from app.ui.components.actions import acted, acting
from app.ui.components.chat import short_label
from app.ui.components.chat_list import chat_table

# more are reached by REST
_SHOWN = 30


@dataclass(frozen=True)
class Past:
    """The list, in what folds it away."""

    whole: gr.Accordion
    table: gr.HTML


def past() -> Past:
    """Lay it out; not there while there is no conversation."""
    with gr.Accordion("Earlier conversations", open=False, visible=False, elem_id="earlier") as whole:
        table = acting("conversations")
    return Past(whole, table)


def shown(workbench: Workbench, current: str) -> list[Any]:
    """The list as it stands, for `whole` and `table`; `current` is the conversation that is open."""
    found = workbench.store.chat.conversations(_SHOWN)
    names = {model for one in found for model in one.models}
    labels = {name: short_label(name, chat.job_of(workbench, name)) for name in names}
    table = chat_table(found, workbench.store.chat.count(), labels, current)
    return [gr.Accordion(visible=bool(found)), table]


def delete(workbench: Workbench, event: gr.EventData) -> None:
    """Delete the conversation whose button was pressed; one that is gone already is what was wanted."""
    verb, conversation = acted(event)
    if verb != "delete-conversation":
        return
    try:
        chat.forget(workbench, conversation)
    except NotFoundError:
        return
