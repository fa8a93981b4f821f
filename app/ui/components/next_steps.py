# SPDX-License-Identifier: Apache-2.0
"""What one does next with a finished job, as a row of links."""

from html import escape
from urllib.parse import quote

from core.store.views import JobView


def next_steps(job: JobView, healed: str | None = None) -> str:
    """Links to the other pages that take this job on; `healed` is the job whose result it healed."""
    about = f"/models?model={quote(job.spec.model, safe='')}"
    if job.spec.kind == "profile":
        return f'<p class="buttons"><a class="button" href="{escape(about)}">See it layer by layer</a></p>'
    if job.spec.evaluate is not None:
        names = job.spec.evaluate.conversions
        known = ",".join(one[4:] for one in names if one.startswith("job:"))
        address = escape(known)
        # a report is on one of them
        links = [("Compare", f"/compare?jobs={address}"), ("Report", f"/report?job={address}")]
        steps = [*(links if known else ()), ("About the model", escape(about))]
        steps = [one for one in steps if one[0] != "Report" or "," not in known]
        body = "".join(f'<a class="button" href="{link}">{name}</a>' for name, link in steps)
        return f'<p class="buttons">{body}</p>'
    # a healed model stands beside what it was before
    ids = [*([healed] if healed else []), job.id]
    chat = ",".join([quote(job.spec.model, safe=""), *(f"job:{quote(one)}" for one in ids)])
    links = [
        ("Chat", f"/chat?models={chat}"),
        ("Compare", f"/compare?jobs={','.join(map(quote, ids))}"),
        ("Heal again" if job.spec.heal else "Heal", f"/heal?job={quote(job.id)}"),
        ("Evaluate further", f"/evaluate?job={quote(job.id)}"),
        ("Report", f"/report?job={quote(job.id)}"),
        ("About the model", about),
    ]
    body = "".join(f'<a class="button" href="{escape(address)}">{name}</a>' for name, address in links)
    return f'<p class="buttons">{body}</p>'
