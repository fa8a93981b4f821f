# SPDX-License-Identifier: Apache-2.0
"""Glossary: every term the pages use, one line each, with the section of the paper it comes from."""

import gradio as gr

from app.services.workbench import Workbench
from app.ui.components.glossary import glossary
from app.ui.components.shell import top_bar

# the entry an address names was not there when the browser looked for it
_GO_TO_ENTRY = "() => { document.getElementById(location.hash.slice(1))?.scrollIntoView() }"


def build(workbench: Workbench, page: gr.Blocks) -> None:
    """Lay out the page; it has no handlers but the bar's."""
    top_bar(workbench, page, "/glossary")
    gr.HTML("<h1>Glossary</h1>")
    with gr.Column(elem_classes="sheet"):
        gr.HTML(glossary(), elem_id="glossary")
    page.load(None, None, None, js=_GO_TO_ENTRY)
