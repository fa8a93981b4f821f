# SPDX-License-Identifier: Apache-2.0
"""The web process: REST and page over the record. It reads and writes rows and never computes; no torch."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from app.api import make_router
from app.api.errors import install_error_handlers
from app.api.same_origin import OwnPagesChange
from app.services.bell import CeleryBell, WebBell
from app.services.reconcile import keep_reconciled
from app.services.telling import keep_told
from app.services.workbench import Workbench
from app.ui.mount import mount_page
from core.settings import Settings, load_settings
from core.store import open_store


def create_app(settings: Settings | None = None, bell: WebBell | None = None) -> FastAPI:
    """The whole web application. `bell` is for those who bring their own way to wake a worker."""
    app = create_api(settings, bell)
    return mount_page(app, app.state.workbench)


def create_api(settings: Settings | None = None, bell: WebBell | None = None) -> FastAPI:
    """REST without the page."""
    settings = settings or load_settings()
    store = open_store(settings, migrate=True)
    own_bell = CeleryBell(settings)
    workbench = Workbench(settings, store, bell or own_bell)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loops = [asyncio.create_task(keep(workbench)) for keep in (keep_reconciled, keep_told)]
        yield
        for loop in loops:
            loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loop
        own_bell.close()
        store.close()

    app = FastAPI(
        title="mla-workbench",
        description="Turn a pretrained transformer into a Multi-head Latent Attention model.",
        lifespan=lifespan,
        openapi_url="/api/openapi.json",
        # FastAPI's documentation pages load their scripts from a public server; this product works offline
        docs_url=None,
        redoc_url=None,
    )
    app.state.workbench = workbench
    install_error_handlers(app)
    app.add_middleware(OwnPagesChange)
    app.include_router(make_router())

    @app.get("/healthz", tags=["operation"])
    def healthz() -> dict[str, str]:
        """The process answers and the record can be read."""
        store.count()
        return {"status": "ok"}

    @app.get("/jobs/{job_id}", include_in_schema=False)
    def job_page(job_id: str) -> RedirectResponse:
        """The short address of a job's page."""
        return RedirectResponse(f"/job?id={quote(job_id, safe='')}", status_code=303)

    return app
