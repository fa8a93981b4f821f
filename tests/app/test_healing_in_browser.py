# SPDX-License-Identifier: Apache-2.0
"""A healing as a person asks for it and watches it: a tiny conversion, really healed while the page looks."""

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from core import kinds
from core.events import Event, NeverCancel
from core.store.artefacts import describe
from core.workspace import Workspace
from tests.app.browsing import Site, running_site
from tests.app.real_jobs import RecordSink, run_job, tiny_request
from tests.browser import PHONE, open_page
from tests.warm_verify import forked_verification

pytestmark = [pytest.mark.browser, pytest.mark.process]


@dataclass
class HalfWay:
    """A record sink that waits after the second curve until the page was looked at."""

    inner: RecordSink
    go_on: threading.Event = field(default_factory=threading.Event)
    curves: int = 0

    def emit(self, event: Event) -> None:
        self.inner.emit(event)
        if event.kind == "figure" and event.name == "healing_curve":
            self.curves += 1
            if self.curves == 2:
                assert self.go_on.wait(120)


@dataclass(frozen=True)
class Made:
    site: Site
    job: str
    text: Path


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, sample_text: Path
) -> Iterator[Made]:
    with (
        pytest.MonkeyPatch.context() as patch,
        forked_verification(patch),
        running_site(tmp_path_factory.mktemp("healing"), tiny_checkpoint) as site,
    ):
        yield Made(site, run_job(site.bench, tiny_request(sample_text, "mha2mla", 0.25)), sample_text)


def fill(page: Page, label: str, value: str) -> None:
    box = page.get_by_label(label, exact=True)
    box.fill(value)
    box.press("Tab")


def work(made: Made, job: str, sink: HalfWay) -> None:
    """What a worker does with a queued job."""
    bench = made.site.bench
    folder = bench.settings.jobs_dir / job
    workspace = Workspace(work=folder / "work", result=folder / "result")
    kinds.run(bench.store.get(job).spec, workspace, sink, NeverCancel(), bench.settings)
    assert bench.store.enter_verifying(job, "worker")
    assert bench.store.finish(job, "worker", describe(workspace.result), 1_000_000)


def test_a_conversion_is_healed_from_its_page_to_the_end(browser: Browser, made: Made) -> None:
    store = made.site.bench.store
    with open_page(browser) as page:
        page.goto(f"{made.site.url}/jobs/{made.job}")
        page.get_by_role("link", name="Heal", exact=True).click()
        start = page.get_by_role("button", name="Heal", exact=True)
        expect(start).to_be_enabled()
        expect(page.locator("#heal-card")).to_contain_text("estimated")
        page.locator("#amount label", has_text="Quick").click()
        expect(page.locator("#heal-tokens input")).to_have_value("20000")
        # what the engine would refuse is refused here, in its words
        fill(page, "Tokens", "10")
        expect(page.locator("#wrong-heal-tokens")).to_contain_text("greater than or equal to 32")
        expect(start).to_be_disabled()
        fill(page, "Tokens", "2048")
        page.locator("#heal-text input").fill(str(made.text))
        page.locator("#heal-text input").press("Enter")
        fill(page, "Learning rate", "0.005")
        page.get_by_role("button", name="More").click()
        for label, value in (("Context", "64"), ("Windows held back", "4"), ("Evaluations", "4")):
            fill(page, label, value)
        expect(page.locator("#heal-card")).to_contain_text(re.compile(r"8 of 256 tokens"))
        expect(page.locator("#copies")).to_contain_text("mla-workbench heal", use_inner_text=False)
        start.click()

        expect(page).to_have_url(re.compile(r"/job\?id=\w+$"))
        job = store.list(limit=1)[0]
        assert (job.spec.kind, job.parent_id) == ("heal", made.job)
        expect(page.locator("#healing")).to_contain_text("The curve starts with the job")
        store.claim(job.id, "worker", 100_000)
        sink = HalfWay(RecordSink(made.site.bench, job.id))
        worker = threading.Thread(target=work, args=(made, job.id, sink))
        worker.start()
        expect(page.locator("#healing-words")).to_contain_text("Best so far")
        # training loss, held-out KL, its ratio, and the best of both
        traces = page.locator("#healing-plot .scatterlayer .trace")
        expect(traces).to_have_count(5)
        expect(page.locator("#healing-pace .scatterlayer .trace")).to_have_count(2)
        sink.go_on.set()
        expect(page.locator("#summary")).to_contain_text("before it was healed")
        worker.join()
        expect(page.locator("#summary .tile", has_text="tokens learned from")).to_contain_text("2\u202f048")
        expect(page.locator("#healing-words")).not_to_contain_text("so far")
        expect(page.locator("#head")).to_contain_text("healed 2\u202f048")
        healed = store.get(job.id).metrics
        assert healed["healing_kl"] < healed["healing_kl_first"]

        page.locator("#next-steps").get_by_role("link", name="Compare").click()
        expect(page.locator("#legend li")).to_have_count(2)
        expect(page.locator("#specs")).to_contain_text("heal: tokens")


def test_the_next_healing_knows_its_time_and_fits_a_phone(browser: Browser, made: Made) -> None:
    """After the first one of this model: its measured speed, and a clone that asks for the same."""
    job = made.site.bench.store.list(limit=1)[0]
    with open_page(browser, PHONE) as page:
        page.goto(f"{made.site.url}/job?id={job.id}")
        page.get_by_role("link", name="Clone").click()
        expect(page).to_have_url(re.compile(r"/heal\?clone="))
        expect(page.locator("#heal-tokens input")).to_have_value("2048")
        expect(page.locator("#heal-card")).to_contain_text(f"as in job {job.id}")
        expect(page.locator("#heal-card .chip-measured").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
