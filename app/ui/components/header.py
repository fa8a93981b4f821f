# SPDX-License-Identifier: Apache-2.0
"""The bar on top of every page: name, pages, and whether somebody is there to work."""

from collections.abc import Sequence
from html import escape

from app.ui.strings import NO_WORKER, PRODUCT
from core.store import WorkerView

PAGES = (("New", "/"), ("Jobs", "/jobs"), ("Models", "/models"), ("Compare", "/compare"), ("Chat", "/chat"))


def header(current: str, workers: Sequence[WorkerView]) -> str:
    """`current` is the address of the page that is open."""
    links = "".join(f'<a href="{address}"{_mark(address == current)}>{name}</a>' for name, address in PAGES)
    return (
        f'<header class="bar"><a class="brand" href="/">{PRODUCT}</a><nav>{links}</nav>'
        f'<span class="spacer"></span>{_presence(workers)}</header>'
    )


def _mark(is_current: bool) -> str:
    return ' aria-current="page"' if is_current else ""


def _presence(workers: Sequence[WorkerView]) -> str:
    if not workers:
        hint = "jobs wait until a worker starts: run 'mla-workbench serve', or a Celery worker"
        return f'<span class="presence absent" title="{hint}">{NO_WORKER}</span>'
    busy = sum(worker.job_id is not None for worker in workers)
    words = ", ".join(
        f"{number} {word}" for number, word in ((len(workers) - busy, "idle"), (busy, "busy")) if number
    )
    names = "; ".join(f"{worker.name} on {worker.device}" for worker in workers)
    return f'<span class="presence" title="{escape(names)}">worker: {words}</span>'
