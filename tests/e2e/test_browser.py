# SPDX-License-Identifier: Apache-2.0
"""The whole way on the real demo model, as a person goes it: one command starts everything but the browser.

A sweep calibrates once and its results land on the Pareto plot. One of its jobs is cloned, tuned by targets
and by hand, submitted, reloaded in the middle, watched to done, downloaded, loaded in a fresh process, and
talked to. Another choice of rotary pairs is made on the map and found in the result. Two jobs are compared,
and the model's page leads to one of them. All of it reads one small calibration.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from core.settings import Settings
from tests.browser import DESKTOP, PHONE, launch, open_page
from tests.e2e import demo
from tests.serve.serving import Serving
from tests.steering import bar, click_pair, outlined, pull, ranks

pytestmark = [pytest.mark.browser, pytest.mark.process, pytest.mark.real]
# a dead line for a busy machine, not a measurement
WHOLE_JOB_MS = 1_800_000
LAYERS, NUMBERS, BYTES = 30, 384, 2
SIZES = [(DESKTOP, "light"), (PHONE, "dark")]


@dataclass(frozen=True)
class Sweep:
    """What became of one: the address of its page, and its jobs."""

    address: str
    profile: str
    small: str
    large: str


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launch() as browser:
        yield browser


@pytest.fixture(scope="module")
def url(demo_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`python -m app.serve` with the demo model prepared and nothing else."""
    home = tmp_path_factory.mktemp("e2e")
    (home / "models").symlink_to(demo_settings.models_dir.resolve())
    serving = Serving(Settings(data_dir=home, port=0, threads=1), home / "serve.txt")
    yield serving.wait_for_page()
    serving.close()


@pytest.fixture(scope="module")
def sweep(browser: Browser, url: str) -> Sweep:
    """Two budgets of the best quality, started in the form and watched until the last one is done."""
    with open_page(browser) as page:
        page.goto(f"{url}/sweep")
        demo.fill_sweep(page, "31.25, 50")
        grid = page.locator("#grid")
        expect(grid.locator("tbody tr")).to_have_count(2)
        expect(grid).to_contain_text("A first job makes the profile")
        demo.shoot(page, "sweep-asked", DESKTOP)
        page.get_by_role("button", name="Start the sweep").click()
        expect(page).to_have_url(re.compile(r"/sweep\?id=\w+$"))
        expect(page.locator("#sweep-table tbody tr")).to_have_count(3)
        expect(page.locator("#sweep-head")).to_contain_text("2 of 3 done", timeout=WHOLE_JOB_MS)
        # what is done is on the plot while the rest still runs
        with open_page(browser) as other:
            other.goto(f"{url}/models?model=demo")
            expect(other.locator("#points a")).to_have_count(1)
        expect(page.locator("#sweep-head")).to_contain_text("3 of 3 done", timeout=WHOLE_JOB_MS)
        jobs = page.locator("#sweep-table tbody th a").evaluate_all("links => links.map(one => one.pathname)")
        return Sweep(page.url, *(one.rpartition("/")[2] for one in jobs))


def told(page: Page, url: str, job: str, what: str = "") -> Any:
    """What the REST API says of a job."""
    return page.request.get(f"{url}/api/v1/jobs/{job}{what}").json()


@pytest.mark.parametrize(("size", "scheme"), SIZES)
def test_a_sweep_calibrates_once_and_its_results_land_on_the_plot(
    browser: Browser, url: str, sweep: Sweep, size: tuple[int, int], scheme: str
) -> None:
    with open_page(browser, size, scheme) as page:
        page.goto(sweep.address)
        table = page.locator("#sweep-table tbody tr")
        expect(table).to_have_count(3)
        read = {
            job: told(page, url, job)["metrics"]["calibrated_tokens"]
            for job in (sweep.profile, sweep.small, sweep.large)
        }
        assert read == {sweep.profile: demo.TOKENS, sweep.small: 0, sweep.large: 0}
        for row in (1, 2):
            expect(table.nth(row)).to_contain_text(re.compile(r"×1\.\d\d"))
        demo.shoot(page, f"sweep-{scheme}", size)
        page.get_by_role("link", name="Pareto plot").click()
        for job in (sweep.small, sweep.large):
            expect(page.locator(f"#points a[href='/jobs/{job}']")).to_be_visible()
        # one for each, and the original
        points = page.locator("#points a").count() + 1
        expect(page.locator("#pareto-plot .scatterlayer .point")).to_have_count(points)


def test_from_the_browser_to_a_model_that_generates(
    browser: Browser, url: str, sweep: Sweep, tmp_path: Path
) -> None:
    """A job of the sweep, tuned by targets and by hand: what was shown is what the downloaded model has."""
    with open_page(browser) as page:
        demo.clone(page, url, sweep.small)
        demo.tune(page, LAYERS)
        _reach_targets(page)
        wanted = _set_ranks(page)
        demo.shoot(page, "tuned-light", DESKTOP)
        job = demo.convert(page)
        # the tab says i of n of the stage, so a worker has really begun
        expect(page).to_have_title(re.compile(r"^running \d+/\d+ · demo$"), timeout=120_000)
        page.reload()
        expect(page).to_have_title(re.compile(r"^(running|verifying) \d+/\d+ · demo$"))
        expect(page).to_have_title(re.compile("^done"), timeout=WHOLE_JOB_MS)
        assert told(page, url, job)["parent_id"] == sweep.small
        assert told(page, url, job)["metrics"]["calibrated_tokens"] == 0
        _check_result(page)
        folder = demo.download(page, tmp_path)
        demo.talk(page)
        demo.shoot(page, "chat", DESKTOP)
    made = json.loads((folder / "config.json").read_text())["mla_layers"]
    assert [layer["kv_lora_rank"] for layer in made] == wanted
    answer = subprocess.run(
        [sys.executable, "-c", demo.GENERATE, str(folder)], capture_output=True, text=True, timeout=300
    )
    assert answer.returncode == 0, answer.stderr
    # loading may print notes of its own first
    assert answer.stdout.splitlines()[-1].split() == ["MLAForCausalLM", "8"]
    for size, scheme in SIZES:
        with open_page(browser, size, scheme) as other:
            other.goto(f"{url}/jobs/{job}")
            expect(other.locator("#kv-plot .scatterlayer .trace")).to_have_count(2)
            demo.shoot(other, f"done-{scheme}", size)


def _reach_targets(page: Page) -> None:
    """Each sets the slider, and the card says that it is met."""
    keep, card = page.locator("#keep input[type=number]"), page.locator("#cost")
    demo.enter(page, "#set-size", kilobytes=5.76)
    expect(keep).to_have_value("25")
    expect(card.locator(".headline .after")).to_have_text("5.76\u202fKB")
    demo.enter(page, "#set-room", tokens=8192, batch=8, gigabytes=0.48)
    # 122 numbers of each layer: 0.4797 GB; one more would be 0.4836
    expect(card.locator(".headline .after")).to_have_text("7.32\u202fKB")
    demo.enter(page, "#set-loss", percent=30)
    expect(card.locator(".headline .after")).not_to_have_text("7.32\u202fKB")
    said = re.findall(r"about ×(\d\.\d\d)", card.inner_text())
    assert 1.25 <= float(said[0]) <= 1.30, said
    demo.enter(page, "#set-size", kilobytes=7.2)
    expect(keep).to_have_value("31.25")


def _set_ranks(page: Page) -> list[int]:
    """One layer is dragged, another locked as it is, and the rest pays: the ranks the job is to have."""
    expect(page.locator("#cost .headline .after")).to_have_text("7.20\u202fKB")
    before, budget = ranks(page), round(0.3125 * NUMBERS) * LAYERS
    assert sum(before) == budget
    pull(page, layer=12, up=40)
    bar(page, 5).click()
    page.get_by_role("button", name="Lock layer 5").first.click()
    expect(page.locator(".lb-bar.locked")).to_have_count(2)
    pulled = ranks(page)[12]
    assert pulled > before[12]
    page.locator("#spread").click()
    expect(page.locator("#cost .headline .after")).to_have_text("7.20\u202fKB")
    after = ranks(page)
    assert (after[5], after[12], sum(after)) == (before[5], pulled, budget)
    assert after != before
    return after


def _check_result(page: Page) -> None:
    """Both charts, equal bytes, and the numbers of the budget: 120 of 384 on average, 7200 bytes in all."""
    expect(page.locator("#rope-plot .heatmaplayer image")).to_be_visible()
    expect(page.locator("#kv-plot .scatterlayer .trace")).to_have_count(2)
    expect(page.locator("#kv-table")).to_contain_text("formula and measurement agree")
    expect(page.locator("#kv-table")).to_contain_text("7\u202f200 B")
    expect(page.locator("#layers tbody tr")).to_have_count(LAYERS)
    expect(page.locator("#layers tbody tr").first).to_contain_text(str(NUMBERS))
    expect(page.locator("#rope-caption")).to_contain_text("nothing is dropped")
    expect(page.locator("#summary")).to_contain_text("3.2 times smaller")
    expect(page.locator("#summary")).to_contain_text("perplexity ×")
    assert demo.plots_without_links(page) == []


def test_pairs_chosen_on_the_map_are_those_that_rotate(browser: Browser, url: str, sweep: Sweep) -> None:
    """One pair is dropped and another kept, in the middle of the model; everything else is the rule's."""
    with open_page(browser) as page:
        demo.clone(page, url, sweep.small)
        page.locator("#preset label", has_text="Fast decode").click()
        expect(page.locator("#cost")).to_contain_text("shared rotary dims")
        demo.tune(page, LAYERS)
        wanted = [[[*row] for row in rows] for rows in outlined(page)]
        row = wanted[14][0]
        dropped, kept = row[0], next(pair for pair in range(32) if pair not in row)
        page.locator(".pm-row").select_option("0")
        click_pair(page, 14, dropped)
        click_pair(page, 14, kept)
        wanted[14][0] = sorted({*row, kept} - {dropped})
        assert outlined(page) == wanted
        # given ranks leave nothing to be allocated: the job is as long as the conversion
        pull(page, layer=20, up=-20)
        expect(page.locator(".lb-bar.locked")).to_have_count(1)
        given = ranks(page)
        demo.shoot(page, "pairs-light", DESKTOP)
        job = demo.convert(page)
        expect(page).to_have_title(re.compile("^done"), timeout=WHOLE_JOB_MS)
        assert told(page, url, job, "/figures")["rope_contribution"]["kept"] == wanted
        rows = told(page, url, job, "/figures")["layers"]["rows"]
        assert [layer["kv_lora_rank"] for layer in rows] == given
    with open_page(browser, PHONE, "dark") as page:
        # its clone shows what was set by hand
        page.goto(f"{url}/?from={job}")
        expect(page.locator("#cost")).to_contain_text("nats")
        demo.tune(page, LAYERS)
        assert (outlined(page), ranks(page)) == (wanted, given)
        demo.shoot(page, "pairs-dark", PHONE)


@pytest.mark.parametrize(("size", "scheme"), SIZES)
def test_two_jobs_are_compared(
    browser: Browser, url: str, sweep: Sweep, size: tuple[int, int], scheme: str
) -> None:
    """Two ticks: what was asked differently, the better of each figure, lines over each other, words."""
    with open_page(browser, size, scheme) as page:
        page.goto(f"{url}/compare")
        for job in (sweep.small, sweep.large):
            page.locator("#choice label", has_text=job).click()
            expect(page.locator(f"#legend a[href='/jobs/{job}']")).to_be_visible()
        expect(page.locator("#specs tbody tr")).to_have_count(1)
        expect(page.locator("#specs")).to_contain_text("0.5")
        loss = page.locator("#metrics tr", has_text="perplexity ratio")
        # columns: the smaller cache, the larger one
        expect(loss.locator("td").last).to_have_class(re.compile("best"))
        cache = page.locator("#metrics tr", has_text="cache per token")
        expect(cache.locator("td.best")).to_contain_text("7.20")
        expect(page.locator("#rank-plot .scatterlayer .trace")).to_have_count(2)
        said = page.locator("#samples dd").all_inner_texts()
        assert len(said) == 2
        assert all(len(one.split()) > 2 for one in said), said
        assert demo.plots_without_links(page) == []
        expect(page).to_have_url(re.compile(f"jobs={sweep.small},{sweep.large}$"))
        demo.shoot(page, f"compare-{scheme}", size)
        page.reload()
        expect(page.locator("#legend li")).to_have_count(2)


@pytest.mark.parametrize(("size", "scheme"), SIZES)
def test_the_model_is_described_and_a_point_opens_its_job(
    browser: Browser, url: str, sweep: Sweep, size: tuple[int, int], scheme: str
) -> None:
    with open_page(browser, size, scheme) as page:
        page.goto(f"{url}/models")
        page.locator("#models a", has_text="demo").click()
        expect(page.locator("#model-facts")).to_contain_text("GQA: 9 heads, 3 with keys and values")
        expect(page.locator("#model-facts")).to_contain_text("23.0\u202fKB per token")
        expect(page.locator("#model-kv-plot .scatterlayer .trace")).to_have_count(1)
        expect(page.locator("#profile-about")).to_contain_text(f"{demo.TOKENS} tokens")
        for plot in ("spectrum-plot", "pair-plot"):
            expect(page.locator(f"#{plot} .heatmaplayer image").first).to_be_visible()
        expect(page.locator("#sensitivity-plot .scatterlayer .trace")).to_have_count(3)
        expect(page.locator(f"#model-jobs a[href='/jobs/{sweep.large}']")).to_be_visible()
        assert demo.plots_without_links(page) == []
        demo.shoot(page, f"model-{scheme}", size)
        point = page.locator("#pareto-plot .scatterlayer .point").first
        x, y = demo.point_at(page, point)
        expect(page.locator("#pareto-plot .hoverlayer")).to_contain_text("click opens the job")
        page.mouse.click(x, y)
        expect(page).to_have_url(re.compile(r"/job\?id=\w+$"))
