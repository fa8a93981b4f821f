# SPDX-License-Identifier: Apache-2.0
"""An evaluation as a person asks for it: from a conversion's page through a real worker to its report."""

import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from app.services.workbench import Workbench
from core.settings import Settings
from core.store import open_store
from core.weights.locate import DEMO_FOLDER
from tests.app.conftest import CountingBell
from tests.app.real_jobs import run_job, tiny_request
from tests.browser import DESKTOP, PHONE, launch, open_page
from tests.e2e import demo
from tests.serve.serving import Serving
from tests.warm_verify import forked_verification

pytestmark = [pytest.mark.browser, pytest.mark.process]

# a dead line for a busy machine, not a measurement
JOB_MS = 600_000


@dataclass(frozen=True)
class Made:
    """The page of `python -m app.serve`, and a tiny conversion that is there already."""

    url: str
    job: str
    text: str


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launch() as browser:
        yield browser


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, sample_text: Path
) -> Iterator[Made]:
    home = tmp_path_factory.mktemp("evaluating")
    settings = Settings(data_dir=home, port=0, threads=1)
    settings.models_dir.mkdir(parents=True)
    shutil.copytree(tiny_checkpoint, settings.models_dir / DEMO_FOLDER)
    with (
        pytest.MonkeyPatch.context() as patch,
        forked_verification(patch),
        closing(open_store(settings, migrate=True)) as store,
    ):
        bench = Workbench(settings, store, CountingBell())
        job = run_job(bench, tiny_request(sample_text, "mha2mla", 0.25))
    serving = Serving(settings, home / "serve.txt")
    yield Made(serving.wait_for_page(), job, str(sample_text))
    serving.close()


def fill(page: Page, name: str, value: str) -> None:
    box = page.locator(f"#evaluate-{name}").locator("input, textarea")
    box.fill(value)
    box.press("Tab")


def measure_only(page: Page, text: str) -> None:
    """In the place of the texts that are chosen."""
    box = page.locator("#evaluate-texts")
    while box.locator(".token").count():
        box.locator(".token-remove").first.click()
    box.locator("input").fill(text)
    box.locator("input").press("Enter")
    box.locator("input").press("Escape")


@pytest.fixture(scope="module")
def evaluation(browser: Browser, made: Made) -> str:
    """The id of an evaluation that was asked for on the page and done by the worker."""
    with open_page(browser) as page:
        page.goto(f"{made.url}/jobs/{made.job}")
        page.get_by_role("link", name="Evaluate further").click()
        start = page.get_by_role("button", name="Evaluate", exact=True)
        expect(start).to_be_enabled()
        expect(page.locator("#evaluate-card")).to_contain_text("estimated")
        measure_only(page, made.text)
        fill(page, "contexts", "64, many")
        expect(page.locator("#wrong-evaluate-texts")).to_contain_text("valid integer")
        expect(start).to_be_disabled()
        fill(page, "contexts", "64, 600")
        fill(page, "windows", "3")
        page.get_by_label("one of four numbers").check()
        fill(page, "retrieval-contexts", "800")
        fill(page, "samples", "2")
        page.get_by_role("button", name="More").click()
        essay = page.locator("#evaluate-essay input")
        essay.fill(made.text)
        essay.press("Enter")
        expect(page.locator("#evaluate-card")).to_contain_text("4, of 2 models")
        expect(page.locator("#copies")).to_contain_text("--retrieval multikey", use_inner_text=False)
        demo.shoot(page, "evaluate-form", DESKTOP)
        start.click()
        expect(page).to_have_url(re.compile(r"/job\?id=\w+$"))
        expect(page.locator("#summary")).to_contain_text("4 measurements of 2 models", timeout=JOB_MS)
        return page.url.partition("id=")[2]


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_its_tables_are_on_its_page_and_on_the_conversions(
    browser: Browser, made: Made, evaluation: str, size: tuple[int, int], scheme: str
) -> None:
    with open_page(browser, size, scheme) as page:
        page.goto(f"{made.url}/job?id={evaluation}")
        tables = page.locator("#evaluation")
        expect(tables.locator("h3")).to_have_count(3)
        # two lengths; the positions of the longer one; two models on the task
        expect(tables.locator("tbody tr")).to_have_count(6)
        expect(tables).to_contain_text("3 × 600 tokens")
        demo.shoot(page, "evaluation", size)
        page.goto(f"{made.url}/job?id={made.job}")
        expect(page.locator("#evaluation")).to_contain_text("multikey, 800 tokens")
        demo.shoot(page, "measured-further", size)


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "dark"), (PHONE, "light")])
def test_the_report_has_them_says_what_is_missing_and_can_be_taken_away(
    browser: Browser,
    made: Made,
    evaluation: str,
    tmp_path: Path,
    size: tuple[int, int],
    scheme: str,
) -> None:
    with open_page(browser, size, scheme) as page:
        page.goto(f"{made.url}/jobs/{made.job}")
        page.locator("#next-steps").get_by_role("link", name="Report").click()
        report = page.locator("#report")
        expect(report).to_contain_text(f"job {evaluation}")
        expect(report).to_contain_text("Benchmarks. No task of lm-eval was run.")
        demo.shoot(page, "report", size)
        with page.expect_download() as download:
            report.get_by_role("link", name="Save as one page").click()
        file = tmp_path / "report.html"
        download.value.save_as(file)
        # the address of a saved file: whatever it asked for would be refused by open_page
        page.set_content(file.read_text(encoding="utf-8"))
        expect(page.locator("h2", has_text="How to repeat it")).to_be_visible()
        demo.shoot(page, "report-file", size)
