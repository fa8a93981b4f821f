# SPDX-License-Identifier: Apache-2.0
"""Models: laid out in a moment."""

import gradio as gr

from app.services.workbench import Workbench
from app.ui.components.shell import top_bar


def build(workbench: Workbench, page: gr.Blocks) -> None:
    """Lay out the page and attach its handlers."""
    top_bar(workbench, page, "/models")
    gr.HTML("<h2>Models</h2>")
