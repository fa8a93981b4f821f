# SPDX-License-Identifier: Apache-2.0
"""Models, Compare and plots as a person uses them, on jobs and a profile that a tiny model really made.

What the real demo shows on these pages is in tests/e2e.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from core.spec import JobSpec
from tests.app.browsing import Site, running_site
from tests.app.real_jobs import run_job, tiny_request
from tests.browser import PHONE, open_page

pytestmark = [pytest.mark.browser, pytest.mark.process]


@dataclass(frozen=True)
class Made:
    """A server whose record holds two finished conversions of the same model, and its profile."""

    site: Site
    quality: str
    fast: str


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, sample_text: Path
) -> Iterator[Made]:
    with running_site(tmp_path_factory.mktemp("models"), tiny_checkpoint) as site:
        quality, fast = (
            run_job(site.bench, tiny_request(sample_text, preset, keep))
            for preset, keep in (("quality", 0.5), ("fast", 0.4))
        )
        yield Made(site, quality, fast)


def test_a_sample_continues_the_same_words(browser: Browser, made: Made) -> None:
    """Both jobs read the same calibration text, so that the prompt of both is the same."""
    prompts = [made.site.bench.store.figures(job)["sample"]["prompt"] for job in (made.quality, made.fast)]
    assert prompts[0] == prompts[1] != ""
    with open_page(browser) as page:
        page.goto(f"{made.site.url}/compare?jobs={made.quality},{made.fast}")
        expect(page.locator("#samples .prompt").first).to_have_text(str(prompts[0]), use_inner_text=False)


def test_a_profile_is_asked_for_and_then_seen(browser: Browser, made: Made) -> None:
    """One button queues it; when it is there, every layer can be looked at, by recipe and by pair."""
    store = made.site.bench.store
    with open_page(browser, PHONE) as page:
        page.goto(f"{made.site.url}/models?model=demo")
        expect(page.locator("#pareto-plot .scatterlayer .trace").first).to_be_visible()
        page.get_by_role("button", name="Make the profile").click()
        expect(page.locator("#profile-progress")).to_contain_text("waits, position 1")
        waiting = store.list(limit=1)[0]
        assert waiting.spec.kind == "profile"
        store.request_cancel(waiting.id)
        page.reload()
        run_profile(made)
        page.reload()
        expect(page.locator("#profile-about")).to_contain_text("256 tokens")
        expect(page.locator("#spectrum-plot .heatmaplayer image")).to_be_visible()
        expect(page.locator("#energy-plot .scatterlayer .trace")).to_have_count(2)
        expect(page.locator("#sensitivity-plot .scatterlayer .trace")).to_have_count(3)
        page.locator("#profile-recipe label", has_text="Fast decode").click()
        page.locator("#pair-by label", has_text="logit damage").click()
        expect(page.locator("#pair-plot")).to_contain_text("logit energy")
        # measured points, the predicted line and its band
        expect(page.locator("#pareto-plot .scatterlayer .trace")).to_have_count(5)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        page.locator("#model-jobs a", has_text="profile").first.click()
        page.get_by_role("link", name="See it layer by layer").click()
        expect(page).to_have_url(re.compile(r"/models\?model=demo$"))


def run_profile(made: Made) -> None:
    """What a worker would do with the request, on less text."""
    calibration = tiny_request(Path(made_text(made)), "quality", 0.5).calibration
    run_job(made.site.bench, JobSpec(kind="profile", model="demo", calibration=calibration))


def made_text(made: Made) -> str:
    return made.site.bench.store.get(made.quality).spec.calibration.text


def test_plots_are_taken_away_as_picture_and_data(browser: Browser, made: Made) -> None:
    """PNG and SVG are drawn in the browser, by keyboard, too; CSV comes from the record."""
    with open_page(browser) as page:
        page.goto(f"{made.site.url}/jobs/{made.fast}")
        expect(page.locator("#rope-plot .heatmaplayer image")).to_be_visible()
        png = page.get_by_role("button", name="RoPE contribution as PNG picture")
        with page.expect_download() as picture:
            png.focus()
            page.keyboard.press("Enter")
        assert picture.value.suggested_filename == "rope_contribution.png"
        assert picture.value.path().read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        with page.expect_download() as drawing:
            page.get_by_role("button", name="error per layer as SVG picture").click()
        assert drawing.value.path().read_text(encoding="utf-8").startswith("<svg")
        with page.expect_download() as table:
            page.get_by_role("link", name="data of error per layer as CSV").click()
        rows = list(csv.DictReader(table.value.path().read_text(encoding="utf-8").splitlines()))
        assert [int(row["index"]) for row in rows] == [0, 1, 2, 3]
        page.locator("#rope-head label", has_text="side by side").click()
        expect(page.locator("#rope-plot .heatmaplayer image")).to_have_count(2)


def test_a_term_leads_to_its_line_in_the_glossary(browser: Browser, made: Made) -> None:
    """Hovering says it; following it shows the entry of that name."""
    with open_page(browser, PHONE) as page:
        page.goto(f"{made.site.url}/compare?jobs={made.quality}")
        link = page.locator("#metrics a.term", has_text="KL")
        expect(link).to_have_attribute("title", re.compile("distance between the predictions"))
        link.click()
        expect(page).to_have_url(re.compile("/glossary#kl$"))
        expect(page.locator("#kl")).to_be_in_viewport()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
