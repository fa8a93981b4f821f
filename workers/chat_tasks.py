# SPDX-License-Identifier: Apache-2.0
"""The one task of the chat: somebody waits for an answer. The message carries nothing."""

from core.settings import load_settings
from core.store import CHAT_TASK
from workers.chat_app import app, stopping
from workers.chat_supervisor import supervise_chat


@app.task(name=CHAT_TASK)  # type: ignore[untyped-decorator]  # celery ships no types
def chat() -> None:
    """Stay with the process that answers, if it is not there yet and somebody waits."""
    supervise_chat(load_settings(), stopping)
