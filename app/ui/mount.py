# SPDX-License-Identifier: Apache-2.0
"""The page on top of the web application, with nothing of Gradio's that is not asked for."""

import os
import warnings
from collections.abc import Callable

# read when gradio is imported: no telemetry, no version check, nothing leaves the machine
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
from fastapi import FastAPI

from app.services.incoming import MEGABYTE
from app.services.workbench import Workbench
from app.ui.components.shell import foot
from app.ui.pages import chat, compare, evaluate, glossary, heal, job, jobs, models, new, report, sweep
from app.ui.report_file import add_report_file
from app.ui.strings import PRODUCT
from app.ui.theme import FAVICON, make_theme, scripts, style_sheet

_Build = Callable[[Workbench, gr.Blocks], None]
# every page but the first: name, address, what lays it out
_PAGES: tuple[tuple[str, str, _Build], ...] = (
    ("Jobs", "jobs", jobs.build),
    ("Job", "job", job.build),
    ("Heal", "heal", heal.build),
    ("Evaluate further", "evaluate", evaluate.build),
    ("Report", "report", report.build),
    ("Sweep", "sweep", sweep.build),
    ("Models", "models", models.build),
    ("Compare", "compare", compare.build),
    ("Chat", "chat", chat.build),
    ("Glossary", "glossary", glossary.build),
)


def make_page(workbench: Workbench) -> gr.Blocks:
    """All pages as one Gradio application; each has its own address."""
    page: gr.Blocks
    with gr.Blocks(title=PRODUCT, analytics_enabled=False) as page:
        new.build(workbench, page)
        foot()
    for name, address, build in _PAGES:
        with page.route(name, address, show_in_navbar=False):
            build(workbench, page)
            foot()
    return page


def mount_page(app: FastAPI, workbench: Workbench) -> FastAPI:
    """Serve the page at / of `app`."""
    add_report_file(app, workbench)
    with warnings.catch_warnings():
        # every application with several pages is told that it has no server-side rendering; we want none
        warnings.filterwarnings("ignore", message="SSR mode is not supported", category=UserWarning)
        mounted: FastAPI = gr.mount_gradio_app(
            app,
            make_page(workbench),
            path="",
            theme=make_theme(),
            css=style_sheet(),
            head=scripts(),
            favicon_path=str(FAVICON),
            ssr_mode=False,
            run_history=False,
            enable_monitoring=False,
            footer_links=[],
            mcp_server=False,
            # what Gradio takes before a handler sees it; the handler says what is wrong below this
            max_file_size=workbench.settings.upload_mb * MEGABYTE + 1,
        )
    return mounted
