# SPDX-License-Identifier: Apache-2.0
"""Chromium for tests: found on this machine, driven by playwright, kept off the network."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

# without a GPU and in a container; none of these changes what a page looks like
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
_NAMES = ("chromium", "chromium-browser", "google-chrome")
DESKTOP, PHONE = (1440, 900), (390, 844)
# how long an expectation waits when nothing else is said: a dead line for a busy machine, not a measurement
expect.set_options(timeout=60_000)


def find_chromium() -> str:
    """Path of the browser; skips the test, with what to do, when there is none."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if not found:
        pytest.skip("no Chromium: run 'apt-get install chromium', or set CHROMIUM to its path")
    return found


@contextmanager
def launch() -> Iterator[Browser]:
    """A browser for one module."""
    path = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*_FLAGS])
        yield browser
        browser.close()


@contextmanager
def open_page(
    browser: Browser, size: tuple[int, int] = DESKTOP, scheme: str = "light", *, has_touch: bool = False
) -> Iterator[Page]:
    """A fresh profile. Fails at the end if the page logged an error or asked another machine for anything."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,  # type: ignore[arg-type]
        has_touch=has_touch,
        accept_downloads=True,
    )
    page = context.new_page()
    trouble: list[str] = []
    page.on("pageerror", lambda error: trouble.append(f"script error: {error}"))
    page.on("response", lambda one: trouble.append(f"{one.status} {one.url}") if one.status >= 400 else None)
    page.on("request", lambda one: None if _is_local(one.url) else trouble.append(f"external: {one.url}"))
    yield page
    context.close()
    assert not trouble


def _is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))
