# SPDX-License-Identifier: Apache-2.0
"""What every page has: the bar on top, kept fresh, and the line below."""

import gradio as gr

from app.services.workbench import Workbench
from app.ui.components.header import header
from app.ui.events import QUIET

# a worker that came or went is noticed within this many seconds
_SECONDS = 10


def top_bar(workbench: Workbench, page: gr.Blocks, current: str) -> None:
    """Add the bar of the page at address `current`."""

    def render() -> str:
        return header(current, workbench.recent.get("workers", workbench.store.workers))

    bar = gr.HTML(header(current, []), elem_id="bar")
    page.load(render, None, bar, **QUIET)
    gr.Timer(_SECONDS).tick(render, None, bar, **QUIET)


def foot() -> None:
    """Add what stands under every page."""
    gr.HTML(
        '<div class="foot"><a href="/glossary">Glossary</a><a href="/api/openapi.json">REST API</a></div>'
    )
