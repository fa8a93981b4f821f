# SPDX-License-Identifier: Apache-2.0
"""The queue as a person steers it, by mouse and by keyboard, in a real browser on a real server."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from app.services import uploads
from app.services.incoming import Incoming
from core.fixes import less_memory
from core.spec import Calibration, JobSpec
from core.store.views import State
from tests.app.browsing import Site
from tests.app.conftest import finish_job
from tests.browser import PHONE, open_page

pytestmark = [pytest.mark.browser, pytest.mark.process]


def press(page: Page, title: str, job: str) -> None:
    """As the keyboard does: the button is reached and answers to Enter."""
    button = page.get_by_role("button", name=re.compile(f"^{title} job {job}"))
    button.focus()
    page.keyboard.press("Enter")


def test_a_waiting_job_is_paused_and_resumed_in_its_row_by_keyboard(browser: Browser, site: Site) -> None:
    job = site.bench.store.submit(JobSpec()).id
    with open_page(browser) as page:
        page.goto(f"{site.url}/jobs")
        row = page.locator("#jobs tbody tr", has=page.locator(f"a[href='/jobs/{job}']"))
        expect(row).to_contain_text("position")
        press(page, "Pause", job)
        expect(row).to_contain_text("paused")
        assert site.bench.store.get(job).state is State.PAUSED
        # the row was drawn anew: the keyboard is still in it
        assert page.evaluate("document.activeElement.dataset.row") == job
        press(page, "Resume", job)
        expect(row).to_contain_text("queued")
        press(page, "Cancel", job)
        expect(row).to_contain_text("cancelled")


def test_deleting_asks_first_and_says_what_is_given_back(browser: Browser, site: Site) -> None:
    job = finish_job(site.bench, {"model.safetensors": bytes(3_000_000)})
    with open_page(browser, PHONE) as page:
        page.goto(f"{site.url}/jobs")
        press(page, "Delete", job)
        question = page.get_by_role("dialog")
        expect(question).to_contain_text(re.compile(r"gives back 3\.0\d\sMB"))
        question.get_by_role("button", name="Keep").click()
        expect(question).to_have_count(0)
        assert site.bench.store.get(job)
        press(page, "Delete", job)
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(page.locator(f"#jobs a[href='/jobs/{job}']")).to_have_count(0)
        assert not (site.bench.settings.jobs_dir / job).exists()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]


def test_an_uploaded_text_is_deleted_where_the_disk_is_shown(browser: Browser, site: Site) -> None:
    """It says which job reads it; while one has not ended there is a reason in place of the button."""
    bench = site.bench
    with Incoming(bench.settings) as incoming:
        incoming.write(b"A few words of prose. " * 150_000)
        path = uploads.path_of(bench.settings, uploads.store(bench.settings, "my prose", incoming))
    job = bench.store.submit(JobSpec(calibration=Calibration(text=str(path)))).id
    with open_page(browser, PHONE) as page:
        page.goto(f"{site.url}/jobs")
        row = page.locator("#disk tr", has_text="my prose")
        expect(row.locator(f"a[href='/jobs/{job}']")).to_be_visible()
        expect(row).to_contain_text(f"needed by {job}")
        expect(row.get_by_role("button")).to_have_count(0)
        press(page, "Cancel", job)
        row.get_by_role("button", name="Delete text my prose").click()
        question = page.get_by_role("dialog")
        expect(question).to_contain_text(re.compile(r"gives back 3\.\d\d\sMB"))
        question.get_by_role("button", name="Delete").click()
        expect(row).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    assert not path.exists()


def test_a_failure_offers_its_changes_and_one_click_tries_again(browser: Browser, site: Site) -> None:
    store = site.bench.store
    spec = JobSpec(evaluation=None)
    job = store.submit(spec).id
    store.claim(job, "worker", 1000)
    store.fail(job, "worker", "out of memory", "close other programs", fixes=less_memory(spec))
    with open_page(browser) as page:
        page.goto(f"{site.url}/jobs/{job}")
        page.get_by_role("button", name="Retry with windows of 256 tokens").click()
        expect(page.locator("#head")).to_contain_text(f"cloned from {job}")
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#head")).to_contain_text("Paused. Resume continues", timeout=5000)
        clone = page.locator("#clone")
        expect(clone).to_have_attribute("href", re.compile(r"^/\?from="))
    newest = store.list(limit=1)[0]
    assert (newest.parent_id, newest.spec.calibration.context) == (job, 256)
