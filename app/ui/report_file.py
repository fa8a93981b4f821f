# SPDX-License-Identifier: Apache-2.0
"""A report as a file: one HTML page that asks nobody for anything, light and fit to print."""

import re
from html import escape
from pathlib import Path

from fastapi import FastAPI, Response

from app.services.downloads import archive_name
from app.services.report import Report, make_report
from app.services.text_names import texts_of
from app.services.workbench import Workbench
from app.ui.components.report import report_html
from app.ui.theme import style_sheet

_LINK = re.compile(r"<a [^>]*>(.*?)</a>", re.DOTALL)
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>{style}</style></head>
<body class="gradio-container report-file"><main id="report" class="prose">{body}</main></body></html>
"""


def add_report_file(app: FastAPI, workbench: Workbench) -> None:
    """GET /jobs/ID/report.html. Its address is below the job's page, which is why it is no part of REST."""

    @app.get("/jobs/{job_id}/report.html", include_in_schema=False)
    def report_file(job_id: str) -> Response:
        found = make_report(workbench, job_id)
        name = archive_name(found.job)
        headers = {"Content-Disposition": f'attachment; filename="{name}-report.html"'}
        return Response(as_page(found, name), media_type="text/html", headers=headers)


def as_page(found: Report, title: str) -> str:
    """Styles inside, links as plain words, since away from the workbench they lead nowhere; and no path.

    Files go by their names: where they lie is nobody's business but their owner's.
    """
    body = _LINK.sub(r"\1", report_html(found))
    for path in sorted(_paths(found), key=len, reverse=True):
        body = body.replace(escape(path), escape(Path(path).name))
    return _PAGE.format(title=escape(title), style=style_sheet(), body=body)


def _paths(found: Report) -> set[str]:
    """Of every text and model in the requests of its jobs."""
    jobs = [*found.family, *found.evaluations]
    names = {name for job in jobs for name in (job.spec.model, *texts_of(job.spec))}
    names |= {name for job in jobs if job.spec.evaluate for name in job.spec.evaluate.conversions}
    return {name for name in names if Path(name).is_absolute()}
