# SPDX-License-Identifier: Apache-2.0
"""The page as a person sees it, in a real browser on a real server. The engine is not needed here."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from app.services.workbench import Workbench
from core.events import Log
from core.settings import Settings
from core.spec import JobSpec
from core.store import open_store
from core.store.views import FINAL
from core.weights.locate import DEMO_FOLDER
from tests.app.conftest import CountingBell, finish_job
from tests.browser import DESKTOP, PHONE, launch, open_page

pytestmark = [pytest.mark.browser, pytest.mark.process]
SHOTS = Path(__file__).parents[1] / "_shots"


@dataclass(frozen=True)
class Site:
    """A running server and the record behind it."""

    url: str
    bench: Workbench


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launch() as browser:
        yield browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Iterator[Site]:
    """uvicorn on a free port, with a tiny model in the place of the demo."""
    home = tmp_path_factory.mktemp("site")
    settings = Settings(data_dir=home, broker_url=f"redis+socket://{home}/nobody.sock?virtual_host=0")
    settings.models_dir.mkdir(parents=True)
    shutil.copytree(tiny_checkpoint, settings.models_dir / DEMO_FOLDER)
    port = _free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app", "--port", str(port)]
    environment = os.environ | {"MLA_DATA_DIR": str(home), "MLA_BROKER_URL": settings.broker_url}
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_it_answers(f"{url}/healthz", server)
            with closing(open_store(settings)) as store:
                yield Site(url, Workbench(settings, store, CountingBell()))
        finally:
            server.terminate()
            server.wait(timeout=20)


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


def test_three_clicks_from_model_to_job(browser: Browser, site: Site) -> None:
    """Numbers follow the slider, Convert leads to the job's own address, which a second browser can open."""
    with open_page(browser) as page:
        page.goto(site.url)
        card = page.locator("#cost")
        expect(card).to_contain_text("3.2× smaller")
        _drag_to(page, 50)
        expect(card).to_contain_text("2.0× smaller")
        page.get_by_role("button", name="Convert").click()
        expect(page).to_have_url(re.compile(r"/job\?id=\w+$"))
        expect(page.locator("#head")).to_contain_text("queued")
        expect(page).to_have_title(re.compile("^queued"))
        address = page.url
        page.reload()
        expect(page.locator("#spec")).to_contain_text("keep 50")
    with open_page(browser) as other:
        other.goto(address)
        expect(other.locator("#head")).to_contain_text("queued")


def test_what_cannot_work_says_how_to_fix_it_and_disables_the_button(browser: Browser, site: Site) -> None:
    """Beside the field, in words; the button comes back with a value that works."""
    with open_page(browser) as page:
        page.goto(site.url)
        convert = page.get_by_role("button", name="Convert")
        expect(convert).to_be_enabled()
        # best quality caches no rotary dims, so a latent always finds room
        _choose(page, "MHA2MLA")
        _drag_to(page, 3)
        expect(page.locator("#wrong-budget")).to_contain_text("leaves no room for a latent")
        expect(page.locator("#wrong-budget")).to_contain_text("keep at least")
        expect(convert).to_be_disabled()
        _drag_to(page, 60)
        expect(convert).to_be_enabled()
        model = page.locator("#model input")
        model.fill("/no/such/folder")
        model.press("Enter")
        expect(page.locator("#wrong-model")).to_contain_text("there is no folder '/no/such/folder'")
        expect(convert).to_be_disabled()
        page.reload()
        expect(page.locator("#wrong-model")).to_contain_text("there is no folder '/no/such/folder'")


def test_a_preset_sets_every_stage(browser: Browser, site: Site) -> None:
    """From best quality to fast decode and back: all that differs follows, the card and the boxes too."""
    with open_page(browser) as page:
        page.goto(site.url)
        expect(page.locator("#cost")).to_contain_text("latent 20")
        for title in ("Tune", "All stages"):
            page.get_by_role("button", name=title).click()
        expect(page.locator("#rope-dim")).to_contain_text("all positions stay exact")
        expect(page.locator("#rope-dim input")).to_be_disabled()
        for preset, layout, mix, fold, rotary in (
            ("Fast decode", "latent+rope", "complex", "0", "shared by all heads"),
            ("MHA2MLA", "latent+rope", "none", "1", "per KV head"),
            ("Best quality", "pre-rope", "none", "1", "all positions stay exact"),
        ):
            _choose(page, preset)
            expect(page.locator("#recipe-layout input")).to_have_value(re.compile(f"^{re.escape(layout)}:"))
            expect(page.locator("#recipe-rope-mix input")).to_have_value(re.compile(f"^{mix}:"))
            expect(page.locator("#recipe-freqfold input")).to_have_value(fold)
            expect(page.locator("#recipe-mean-bias input")).to_be_checked(checked=preset != "MHA2MLA")
            expect(page.locator("#rope-dim")).to_contain_text(rotary)
        _choose(page, "Fast decode")
        expect(page.locator("#rope-dim input")).to_be_enabled()
        expect(page.locator("#cost")).to_contain_text("shared rotary dims")


def test_choices_that_do_not_go_together_are_named_beside_the_box(browser: Browser, site: Site) -> None:
    """What opens is what holds the problem; the button comes back with choices that work."""
    with open_page(browser) as page:
        page.goto(site.url)
        convert = page.get_by_role("button", name="Convert")
        expect(convert).to_be_enabled()
        page.get_by_role("button", name="All stages").click()
        _pick(page, "#recipe-rope-mix", "roro")
        expect(page.locator("#wrong-layout")).to_contain_text("drops no rotation")
        expect(page.locator("#wrong-layout")).to_contain_text("set rope_mix none")
        expect(convert).to_be_disabled()
        expect(page.locator("#preset-note")).to_contain_text("Changed: Head mixing")
        _pick(page, "#recipe-layout", "latent+rope")
        expect(page.locator("#wrong-rope-select")).to_contain_text("rope_mix leaves none")
        _pick(page, "#recipe-rope-select", "logit-damage")
        expect(convert).to_be_enabled()
        page.locator("#recipe-rope-mix").scroll_into_view_if_needed()
        _pick(page, "#recipe-rope-mix", "none")
        fold = page.locator("#recipe-freqfold input")
        fold.fill("4")
        expect(page.locator("#wrong-freqfold")).to_contain_text("freqfold 4 has no meaning without rope_mix")
        page.reload()
        # nothing typed is lost, and what is wrong is not hidden in a closed fold
        expect(page.locator("#wrong-freqfold")).to_be_visible()


def test_what_was_typed_survives_a_reload(browser: Browser, site: Site) -> None:
    """The form is kept by the browser, not by the server."""
    with open_page(browser) as page:
        page.goto(site.url)
        expect(page.locator("#cost")).to_contain_text("smaller")
        _drag_to(page, 75)
        expect(page.locator("#cost")).to_contain_text("1.3× smaller")
        page.reload()
        expect(page.locator("#keep input[type=number]")).to_have_value("75")
        expect(page.locator("#cost")).to_contain_text("1.3× smaller")


def test_a_typed_path_is_shown_as_text(browser: Browser, site: Site) -> None:
    """Markup in what a user typed is never interpreted."""
    with open_page(browser) as page:
        page.goto(site.url)
        expect(page.locator("#cost")).to_contain_text("smaller")
        model = page.locator("#model input")
        model.fill("/<img src=x onerror=\"document.title='owned'\">")
        model.press("Enter")
        expect(page.locator("#wrong-model")).to_contain_text("<img src=x")
        assert page.locator("#wrong-model img").count() == 0
        assert page.title() != "owned"


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


def _choose(page: Page, preset: str) -> None:
    page.locator("#preset label", has_text=preset).click()


def _pick(page: Page, box: str, choice: str) -> None:
    """Choose from a list by what its lines begin with."""
    page.locator(f"{box} input").click()
    page.locator(f"{box} [role=option]", has_text=re.compile(f"^\\W*{re.escape(choice)}:")).click()


def _drag_to(page: Page, percent: float) -> None:
    """Move the slider as a drag does: many input events, the last one counts."""
    slider = page.locator("#keep input[type=range]")
    start = float(slider.input_value())
    for step in range(1, 11):
        position = round((start + (percent - start) * step / 10) * 4) / 4
        slider.evaluate(
            "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})) }", str(position)
        )


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_answers(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert server.poll() is None, "the server ended before it answered"
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server did not answer within a minute")
