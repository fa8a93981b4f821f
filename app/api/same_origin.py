# SPDX-License-Identifier: Apache-2.0
"""Refuse what a page of another site makes a visitor's browser send here."""

from urllib.parse import urlsplit

from fastapi import Request

from app.services.errors import ForbiddenError

# what a browser says of its own pages, of an address typed by hand, and what older ones leave out
_OWN = (None, "same-origin", "none")


def same_origin(request: Request) -> None:
    """Raise ForbiddenError for a request that a browser made for another origin. Programs send no origin."""
    origin = request.headers.get("origin")
    is_foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if is_foreign or request.headers.get("sec-fetch-site") not in _OWN:
        raise ForbiddenError(
            "a page of another site may not do this here", hint="use the page of this server, or curl"
        )
