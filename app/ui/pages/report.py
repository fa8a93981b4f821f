# SPDX-License-Identifier: Apache-2.0
"""Report: what is known of a finished conversion, and what is not; ?job= names it."""

import gradio as gr

from app.services.report import make_report
from app.services.workbench import Workbench
from app.ui.components.messages import failure
from app.ui.components.report import report_html
from app.ui.components.shell import top_bar
from app.ui.events import QUIET
from core.errors import WorkbenchError

_READ_ADDRESS = "() => new URLSearchParams(window.location.search).get('job') || ''"
_NOTHING = "Choose “Report” on the page of a finished conversion."
# both texts are compared word for word, which takes a few seconds
_MAKING = '<h1>Report</h1><p class="empty">Collects what was measured, and what two texts share …</p>'


def build(workbench: Workbench, page: gr.Blocks) -> None:
    """Lay out the page and attach its handlers."""
    top_bar(workbench, page, "/jobs")
    job_id = gr.Textbox("", visible="hidden")
    shown = gr.HTML(_MAKING, elem_id="report")

    def on_open(wanted: str) -> str:
        try:
            if not wanted:
                raise WorkbenchError("no job is named", hint=_NOTHING)
            found = make_report(workbench, wanted)
        except WorkbenchError as error:
            return f"<h1>Report</h1>{failure(error)}"
        address = f"/jobs/{found.job.id}/report.html"
        take = f'<a class="button" href="{address}" download>Save as one page, to print or send</a>'
        return f'{report_html(found)}<div class="buttons">{take}</div>'

    page.load(on_open, job_id, shown, js=_READ_ADDRESS, **QUIET)
