# SPDX-License-Identifier: Apache-2.0
"""Refuse what a page of another site makes a visitor's browser do here. Programs are not concerned."""

from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.errors import error_response
from app.services.errors import ForbiddenError

# methods that change nothing: a link from elsewhere may lead here
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# what a browser says of the server's own pages, and of an address typed by hand
_OWN = ("same-origin", "none")


class OwnPagesChange:
    """Lets no page of another site change anything: jobs, texts, conversations, by REST or by the page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 in place of the application."""
        if scope["type"] == "http" and scope["method"] not in _SAFE and is_foreign(Headers(scope=scope)):
            await error_response(_refusal())(scope, receive, send)
            return
        await self._app(scope, receive, send)


def same_origin(request: Request) -> None:
    """Raise ForbiddenError for a request from another site, whatever its method."""
    if is_foreign(request.headers):
        raise _refusal()


def is_foreign(headers: Headers) -> bool:
    """Whether a browser made the request for a page of another origin. curl and scripts send neither header.

    Browsers send Sec-Fetch-Site where the connection is safe from others (https, this machine); Origin goes
    with every request that may change something, and names the host as the browser sees it.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site not in _OWN
    if origin is None:
        return False
    # a proxy that calls this server by another name says what the browser called it; no page can say that
    return urlsplit(origin).netloc not in (headers.get("host"), headers.get("x-forwarded-host"))


def _refusal() -> ForbiddenError:
    return ForbiddenError(
        "a page of another site may not do this here", hint="use the page of this server, or curl"
    )
