# SPDX-License-Identifier: Apache-2.0
"""Compare: laid out in a moment."""

import gradio as gr

from app.services.workbench import Workbench
from app.ui.components.shell import top_bar


def build(workbench: Workbench, page: gr.Blocks) -> None:
    """Lay out the page and attach its handlers."""
    top_bar(workbench, page, "/compare")
    gr.HTML("<h2>Compare</h2>")
