# SPDX-License-Identifier: Apache-2.0
"""What one does next with a finished job, as a row of links."""

from html import escape
from urllib.parse import quote

from core.store.views import JobView


def next_steps(job: JobView) -> str:
    """Links to the other pages that take this job on."""
    about = f"/models?model={quote(job.spec.model, safe='')}"
    if job.spec.kind == "profile":
        return f'<p class="buttons"><a class="button" href="{escape(about)}">See it layer by layer</a></p>'
    links = [
        ("Chat", f"/chat?models={quote(job.spec.model, safe='')},job:{quote(job.id)}"),
        ("Compare", f"/compare?jobs={quote(job.id)}"),
        ("About the model", about),
    ]
    body = "".join(f'<a class="button" href="{escape(address)}">{name}</a>' for name, address in links)
    return f'<p class="buttons">{body}</p>'
