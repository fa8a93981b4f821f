# SPDX-License-Identifier: Apache-2.0
"""A sweep as a person starts, watches and cancels it, in a real browser on a real server."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from core.events import Metric
from core.store.views import State
from tests.app.browsing import Site
from tests.browser import PHONE, open_page

pytestmark = [pytest.mark.browser, pytest.mark.process]


def write(page: Page, budgets: str) -> None:
    """Key by key: the page answers to each."""
    box = page.get_by_label("Budgets")
    box.press("Control+a")
    box.press_sequentially(budgets)


def test_a_sweep_shows_its_grid_starts_and_its_results_land(browser: Browser, site: Site) -> None:
    store = site.bench.store
    with open_page(browser, PHONE) as page:
        page.goto(f"{site.url}/jobs")
        page.get_by_role("link", name="New sweep").click()
        grid = page.locator("#grid")
        expect(grid).to_contain_text("8 conversions")
        write(page, "25, half")
        expect(grid).to_contain_text("'half' is not a budget")
        expect(page.get_by_role("button", name="Start the sweep")).to_be_disabled()
        write(page, "25 %, 50 %")
        expect(grid.locator("tbody tr")).to_have_count(4)
        expect(grid).to_contain_text("A first job makes the profile")
        expect(grid).to_contain_text("2.0×")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        page.get_by_role("button", name="Start the sweep").click()

        expect(page).to_have_url(re.compile(r"/sweep\?id=\w+$"))
        table = page.locator("#sweep-table tbody tr")
        expect(table).to_have_count(5)
        expect(page.locator("#sweep-head")).to_contain_text("0 of 5 done")
        profile, first, second, *rest = store.sweep(page.url.partition("id=")[2])
        assert [job.after_id for job in (first, second, *rest)] == [profile.id] * 4
        for job in (profile, first):
            store.claim(job.id, "w#1", 1000)
            store.record(job.id, "w#1", Metric(name="perplexity_ratio", value=1.07))
            store.enter_verifying(job.id, "w#1")
            assert store.finish(job.id, "w#1", ())
        expect(page.locator("#sweep-head")).to_contain_text("2 of 5 done")
        expect(table.nth(1)).to_contain_text("×1.07")
        page.get_by_role("button", name=f"Cancel job {second.id}").click()
        expect(table.nth(2)).to_contain_text("cancelled")
        page.get_by_role("button", name="Cancel all").click()
        expect(page.locator("#sweep-head")).to_contain_text("2 of 5 done, 3 not")
        expect(page).to_have_title("2/5 · sweep")
        assert {store.get(job.id).state for job in rest} == {State.CANCELLED}
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
