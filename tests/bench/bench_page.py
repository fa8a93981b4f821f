# SPDX-License-Identifier: Apache-2.0
"""Slider to drawn card: how long a person waits for the numbers, in a real Chromium, in percentiles.

The demo model with a profile of its own, the New page as it opens, one person at a time. A move is one input
event of the budget's slider; the answer is there with the second frame after the card shows other bytes than
before, so what is timed is request, answer, script and drawing. A drag is ten such events, a frame apart, and
is timed from the last one. The machine's load stands beside the percentiles: they mean what they say when it
is near that of the server alone.
"""

import os
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from app.services.estimate import estimate
from app.ui.form import DEFAULT_BATCH, DEFAULT_CONTEXT
from app.ui.format import byte_unit, size
from core.events import NeverCancel, NullSink
from core.profiling import make_profile
from core.settings import Settings
from core.spec import Calibration, JobSpec
from core.weights.demo import prepare_demo
from core.weights.locate import DEMO_FOLDER
from tests.app.browsing import Site, choose, running_site
from tests.browser import launch, open_page

MOVES, WARM_UP, EVENTS = 60, 4, 10
TARGET_MS = 300
# what a profile was made of changes no time of the page; little text makes it in two minutes, once
CALIBRATION = Calibration(tokens=1024, context=128, fisher_tokens=512, refit_tokens=128)
HOME = Settings(data_dir=Path(__file__).parents[2] / "build" / "test-home")
# by then the page has kept the form, and nothing is under way
PAUSE_MS = 250

# milliseconds from the last of `values` to the second frame after the card says `wanted`
_TIMED = """async ([values, wanted]) => {
  const slider = document.querySelector('#keep input[type=range]'), card = document.querySelector('#cost');
  const says = () => card.querySelector('.headline .after')?.textContent === wanted;
  const frame = () => new Promise((next) => requestAnimationFrame(next));
  let started = 0;
  for (const [index, value] of values.entries()) {
    if (index) await frame();
    slider.value = value;
    started = performance.now();
    slider.dispatchEvent(new Event('input', {bubbles: true}));
  }
  if (!says()) await new Promise((seen) => {
    const watch = new MutationObserver(() => { if (says()) { watch.disconnect(); seen(); } });
    watch.observe(card, {childList: true, subtree: true, characterData: true});
  });
  await frame();
  await frame();
  return performance.now() - started;
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The web process alone, with the demo and its profile, which is made by the first run."""
    prepare_demo(HOME)
    make_profile(JobSpec(calibration=CALIBRATION), HOME, NullSink(), NeverCancel())
    home = tmp_path_factory.mktemp("site")
    (home / "profiles").symlink_to(HOME.home / "profiles")
    with running_site(home, HOME.models_dir / DEMO_FOLDER) as site:
        yield site


def test_slider_to_drawn_card(site: Site) -> None:
    print(f"\n{'':34} {'p50':>6} {'p95':>6} {'max':>6}  ms, of {MOVES}; median load; aim: p95 < {TARGET_MS}")
    with launch() as browser:
        for preset, title in (("quality", "Best quality"), ("fast", "Fast decode")):
            with open_page(browser) as page:
                page.goto(site.url)
                expect(page.locator("#cost")).to_contain_text("nats")
                if preset != "quality":
                    choose(page, title)
                    page.get_by_role("button", name="Tune").click()
                    expect(page.locator(".pm canvas")).to_be_visible()
                view = "as it opens" if preset == "quality" else "bars and pairs open"
                _row(f"one move, {view}", *_timed(page, site, preset, events=1))
                _row(f"end of a drag, {view}", *_timed(page, site, preset, events=EVENTS))


def _timed(page: Page, site: Site, preset: str, events: int) -> tuple[list[float], float]:
    """(milliseconds of every move, median load of the machine meanwhile); no budget comes twice in a row."""
    found, loads = [], []
    for index in range(MOVES + WARM_UP):
        percent = 10 + (37 * index) % 83
        values = [str(percent - 0.25 * step) for step in reversed(range(events))]
        found.append(page.evaluate(_TIMED, [values, _after(site, preset, percent / 100)]))
        loads.append(os.getloadavg()[0])
        page.wait_for_timeout(PAUSE_MS)
    return found[WARM_UP:], statistics.median(loads)


def _after(site: Site, preset: str, keep: float) -> str:
    """What the card says of that budget."""
    plan = estimate(
        site.bench, {"model": "demo", "preset": preset, "keep": keep}, DEFAULT_CONTEXT, DEFAULT_BATCH
    ).plan
    assert plan is not None
    return size(plan.kv_bytes_per_token_after, byte_unit(plan.kv_bytes_per_token_before))


def _row(what: str, milliseconds: list[float], load: float) -> None:
    cuts = statistics.quantiles(milliseconds, n=100)
    print(f"{what:34} {cuts[49]:6.0f} {cuts[94]:6.0f} {max(milliseconds):6.0f}  {load:4.1f}")
