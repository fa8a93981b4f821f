# SPDX-License-Identifier: Apache-2.0
"""Jobs as a person sees them, in a real browser on a real server. The engine is not needed here."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from core.events import Log
from core.spec import JobSpec
from core.store.views import FINAL
from tests.app.browsing import Site
from tests.app.conftest import finish_job
from tests.browser import DESKTOP, PHONE, open_page

pytestmark = [pytest.mark.browser, pytest.mark.process]
SHOTS = Path(__file__).parents[1] / "_shots"


def test_an_empty_list_starts_the_demo_in_one_click(browser: Browser, site: Site) -> None:
    """One sentence, one button, and the demo is on its way."""
    for job in site.bench.store.list():
        if job.state not in FINAL:
            site.bench.store.request_cancel(job.id)
        site.bench.store.delete(job.id)
    with open_page(browser) as page:
        page.goto(f"{site.url}/jobs")
        expect(page.get_by_text("Nothing has been converted yet")).to_be_visible()
        page.get_by_role("button", name="Convert the demo model").click()
        expect(page).to_have_url(re.compile(r"/job\?id=\w+$"))
        expect(page.locator("#spec")).to_contain_text("demo")
        assert site.bench.store.count() == 1


def test_cancel_answers_at_once_and_resume_queues_again(browser: Browser, site: Site) -> None:
    """Two seconds are the promise for a running job too: the request is on record, the worker follows."""
    store = site.bench.store
    job = store.submit(JobSpec()).id
    store.claim(job, "worker", 1000)
    with open_page(browser) as page:
        page.goto(f"{site.url}/jobs/{job}")
        expect(page.locator("#head")).to_contain_text("running")
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#head")).to_contain_text("cancelling", timeout=2000)
        store.cancelled(job, "worker")
        expect(page.locator("#head")).to_contain_text("Stopped on request")
        expect(page).to_have_title(re.compile("^cancelled"))
        page.get_by_role("button", name="Resume").click()
        expect(page.locator("#head")).to_contain_text("queued", timeout=2000)


def test_a_job_is_watched_to_its_end_without_a_reload(browser: Browser, site: Site) -> None:
    """State, log and result appear by themselves; the charts show what the record holds."""
    store = site.bench.store
    job = store.submit(JobSpec()).id
    store.claim(job, "worker", 1000)
    with open_page(browser) as page:
        page.goto(f"{site.url}/jobs/{job}")
        expect(page.locator("#head")).to_contain_text("running")
        store.record(job, "worker", Log(message="hello <i>there</i>"))
        expect(page.locator("#log")).to_contain_text("hello <i>there</i>")
        store.fail(job, "worker", "out of memory", "try less", "last line of the log", 21_400_000_000)
        expect(page.locator("#head")).to_contain_text("out of memory")
        expect(page.locator("#head")).to_contain_text("last line of the log")
        expect(page.locator("#head")).to_contain_text("21.4")
        expect(page.get_by_role("button", name="Resume")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_a_result_is_complete_on_every_screen(
    browser: Browser, site: Site, size: tuple[int, int], scheme: str
) -> None:
    """Verdict, charts, tables and links; nothing but table frames scrolls sideways."""
    job = finish_job(site.bench, {"config.json": b"{}", "model.safetensors": bytes(100_000)})
    with open_page(browser, size, scheme) as page:
        page.goto(f"{site.url}/jobs/{job}")
        expect(page.locator("#summary")).to_contain_text("not usable as it is: perplexity ×130")
        expect(page.locator("#rope-plot .heatmaplayer image")).to_be_visible()
        expect(page.locator("#kv-plot .scatterlayer .trace")).to_have_count(2)
        expect(page.locator("#kv-table")).to_contain_text("formula and measurement agree")
        expect(page.locator("#layers tbody tr")).to_have_count(4)
        expect(page).to_have_title(re.compile("^done"))
        clone = page.get_by_role("link", name="Clone")
        expect(clone).to_be_visible()
        assert (clone.bounding_box() or {})["width"] < 160, "as wide as a button, not as the row"
        heights = {one.bounding_box()["height"] for one in page.locator("#next-steps a").all()}
        assert len(heights) == 1, "links side by side are of one size"
        page.locator("#rope-head label", has_text="1").click()
        page.locator("#kv-batch label", has_text="32").click()
        link = page.get_by_role("link", name=re.compile("Download archive"))
        with page.expect_download() as download:
            link.click()
        assert download.value.path().stat().st_size > 100_000
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        SHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SHOTS / f"job-{size[0]}-{scheme}.png", full_page=True)


def test_jobs_are_listed_filtered_and_opened(browser: Browser, site: Site) -> None:
    """The list says the state in words, narrows down, and leads to the job."""
    job = finish_job(site.bench, {"config.json": b"{}"})
    with open_page(browser, PHONE) as page:
        page.goto(f"{site.url}/jobs")
        expect(page.locator(f"#jobs a[href='/jobs/{job}']")).to_be_visible()
        page.locator("#filter input, #filter textarea").fill("nothing is called like this")
        expect(page.locator("#jobs")).to_contain_text("No job matches this filter")
        page.locator("#filter input, #filter textarea").fill(job)
        expect(page.locator("#jobs tbody tr")).to_have_count(1)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        page.locator(f"#jobs a[href='/jobs/{job}']").click()
        expect(page.locator("#head")).to_contain_text("done")


def test_a_job_that_does_not_exist_says_so(browser: Browser, site: Site) -> None:
    """An old link is a sentence, not an empty page."""
    with open_page(browser) as page:
        page.goto(f"{site.url}/jobs/nosuchjob")
        expect(page.locator("#head")).to_contain_text("there is no job 'nosuchjob'")
