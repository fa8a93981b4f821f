# SPDX-License-Identifier: Apache-2.0
"""Tuning as a researcher does it, in a real browser, on a tiny model with a real profile of its own."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from core.events import NeverCancel, NullSink
from core.profiling import make_profile
from core.spec import Calibration, JobSpec
from core.weights.locate import DEMO_FOLDER
from tests.app.browsing import Site, choose, drag_to, running_site
from tests.browser import DESKTOP, PHONE, open_page
from tests.steering import bar, click_pair, outlined, ranks, swipe

pytestmark = [pytest.mark.browser, pytest.mark.process]
SHOTS = Path(__file__).parents[1] / "_shots"
# the tiny model caches 2 x 2 x 16 numbers per layer in float32, in 4 layers
NUMBERS, LAYERS, BYTES = 64, 4, 4


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, sample_text: Path
) -> Iterator[Site]:
    """A site whose demo has a profile; `other` beside it is the same model without one."""
    home = tmp_path_factory.mktemp("site")
    with running_site(home, tiny_checkpoint) as site:
        settings = site.bench.settings
        calibration = Calibration(text=str(sample_text), tokens=256, context=64)
        make_profile(JobSpec(calibration=calibration), settings, NullSink(), NeverCancel())
        (settings.models_dir / "other").symlink_to(settings.models_dir / DEMO_FOLDER)
        yield site


def test_a_finger_drags_a_bar_and_the_page_stays_where_it_is(browser: Browser, site: Site) -> None:
    """Up and down belong to the bar, not to scrolling; the lock beside it answers to a finger, too."""
    with open_page(browser, PHONE, has_touch=True) as page:
        tune(page, site)
        before = ranks(page)
        bar(page, 1).evaluate("bar => bar.scrollIntoView({block: 'center'})")
        scrolled, place = page.evaluate("scrollY"), bar(page, 1).bounding_box()
        swipe(page, layer=1, up=40)
        assert ranks(page)[1] > before[1]
        assert [ranks(page)[one] for one in (0, 2, 3)] == [before[one] for one in (0, 2, 3)]
        assert page.evaluate("scrollY") == scrolled
        expect(bar(page, 1)).to_have_class(re.compile("locked"))
        expect(page.locator("#wrong-budget")).to_contain_text("(1 of them)")
        assert bar(page, 1).bounding_box() == place, (
            "what the answer says pushes nothing from under the finger"
        )
        high = ranks(page)[1]
        swipe(page, layer=1, up=-60)
        assert ranks(page)[1] < high
        page.get_by_role("button", name="Lock layer 1").first.tap()
        expect(bar(page, 1)).not_to_have_class(re.compile("locked"))


def test_bars_are_reached_by_keyboard_and_kept_by_the_browser(browser: Browser, site: Site) -> None:
    """Arrows nudge and move, L locks, the table says the same, a reload forgets nothing, reset lets go."""
    with open_page(browser) as page:
        tune(page, site)
        before = ranks(page)
        bar(page, 0).focus()
        for key in ("ArrowUp", "ArrowUp", "ArrowRight", "End", "ArrowRight", "l"):
            page.keyboard.press(key)
        wanted = [before[0] + 2, NUMBERS, before[2], before[3]]
        assert ranks(page) == wanted
        page.get_by_text("As a table").click()
        box = page.get_by_label("Latent rank of layer 3", exact=True).and_(page.locator("input"))
        box.fill("7")
        box.press("Enter")
        wanted[3] = 7
        expect(page.locator("#cost .headline .after")).to_have_text(size_of(sum(wanted)))
        page.reload()
        page.get_by_role("button", name="Tune").click()
        expect(bar(page, 3)).to_have_attribute("aria-valuenow", "7")
        assert ranks(page) == wanted
        expect(page.locator(".lb-bar.locked")).to_have_count(4)
        page.locator("#by-slider").click()
        expect(page.locator(".lb-bar.locked")).to_have_count(0)
        assert ranks(page) == before


def test_locked_layers_stay_while_the_slider_moves(browser: Browser, site: Site) -> None:
    """The slider is the budget of the whole; the card and the bars follow it, and the page answers."""
    with open_page(browser) as page:
        tune(page, site)
        bar(page, 1).focus()
        page.keyboard.press("l")
        held = ranks(page)[1]
        expect(page.locator(".lb-bar.locked")).to_have_count(1)
        drag_to(page, 50)
        expect(page.locator("#cost")).to_contain_text("2.0× smaller")
        expect(bar(page, 0)).not_to_have_attribute("aria-valuenow", str(held))
        assert ranks(page)[1] == held
        expect(page.locator("#wrong-budget")).to_contain_text("(1 of them)")
        assert sum(ranks(page)) == NUMBERS // 2 * LAYERS


def test_targets_set_the_slider_or_say_why_not(browser: Browser, site: Site) -> None:
    """Bytes per token, room for a batch, and a loss; what cannot be reached is said beside its row."""
    with open_page(browser) as page:
        tune(page, site)
        keep = page.locator("#keep input[type=number]")
        kilobytes = page.locator("#target-kilobytes input")
        kilobytes.fill(str(16 * LAYERS * BYTES / 1000))
        kilobytes.press("Enter")
        expect(keep).to_have_value("25")
        for box, number in (
            ("tokens", 1000),
            ("batch", 2),
            ("gigabytes", 2e6 * NUMBERS * LAYERS * BYTES / 2e12),
        ):
            page.locator(f"#target-{box} input").fill(str(number))
        page.locator("#set-room").click()
        expect(keep).to_have_value("50")
        expect(page.locator("#cost")).to_contain_text("2.0× smaller")
        page.locator("#target-percent input").fill("1000000")
        page.locator("#set-loss").click()
        # it may lose anything: as little as the slider goes
        expect(keep).to_have_value("3")
        kilobytes.fill("0.001")
        page.locator("#set-size").click()
        expect(page.locator("#wrong-size")).to_contain_text("leaves no room for a latent")
        kilobytes.fill(str(LAYERS * BYTES / 1000))
        page.locator("#set-size").click()
        expect(page.locator("#wrong-size")).to_contain_text("3 % is the least")
        kilobytes.fill("")
        page.locator("#set-size").click()
        expect(page.locator("#wrong-size")).to_contain_text("enter a number above 0")
        expect(page.locator("#cost")).to_contain_text("smaller")


def test_a_pair_is_dropped_and_another_kept(browser: Browser, site: Site) -> None:
    """By click in one row and by key in another layer: exactly that is stored, the rest is the rule's."""
    with open_page(browser) as page:
        tune(page, site, preset="Fast decode")
        rule = outlined(page)
        dropped, layer = rule[1][0][0], 1
        page.locator(".pm-row").select_option("0")
        click_pair(page, layer, dropped)
        page.locator(".pm-frame").press("ArrowDown")
        page.locator(".pm-frame").press("Home")
        page.locator(".pm-frame").press(" ")
        wanted = [[[*row] for row in rows] for rows in rule]
        wanted[1][0].remove(dropped)
        first = wanted[2][0]
        wanted[2][0] = [one for one in first if one] if 0 in first else [0, *first]
        expect(page.locator(".pm-says")).to_contain_text("layer 2, pair 0")
        expect(page.get_by_role("button", name="Convert")).to_be_enabled()
        page.get_by_role("button", name="Convert").click()
        expect(page).to_have_url(re.compile(r"/job\?id=\w+$"))
    stored = newest(site).rope_pairs
    assert stored is not None
    assert [[[*row] for row in rows] for rows in stored] == wanted


def test_the_pair_map_is_taken_away_as_picture_and_as_data(browser: Browser, site: Site) -> None:
    """As it stands, with the pair that was dropped by hand, and without asking the server."""
    with open_page(browser) as page:
        tune(page, site, preset="Fast decode")
        rule = outlined(page)
        dropped = rule[1][0][0]
        page.locator(".pm-row").select_option("0")
        click_pair(page, 1, dropped)
        taken = {}
        for kind in ("PNG", "SVG", "CSV", "JSON"):
            with page.expect_download() as download:
                page.locator(".pm .take").get_by_role("button", name=kind).click()
            assert download.value.suggested_filename == f"rope_pairs.{kind.lower()}"
            taken[kind] = Path(download.value.path()).read_bytes()
    assert taken["PNG"].startswith(b"\x89PNG")
    width = int.from_bytes(taken["PNG"][16:20], "big")
    assert width == 2 * 960
    drawing = ElementTree.fromstring(taken["SVG"])
    words = "".join(drawing.itertext())
    assert "RoPE contribution, KV head 0" in words or "RoPE contribution, Component 0" in words
    layers, pairs, kept = len(rule), 8, sum(len(rows[0]) for rows in rule) - 1
    outlines = [one for one in drawing.iter() if one.get("stroke") == "#ff3d2e"]
    assert len(outlines) == kept, "outlined are the kept pairs of the row that is shown"
    data = json.loads(taken["JSON"])
    cells = [dict(zip(data["columns"], row, strict=True)) for row in data["rows"]]
    assert len(cells) == layers * len(rule[0]) * pairs
    of_row = {(one["layer"], one["pair"]): one["is_kept"] for one in cells if one["row"] == 0}
    assert sum(of_row.values()) == kept
    assert not of_row[1, dropped]
    assert all(one["score"] > 0 and one["tokens_per_turn"] > 6 for one in cells)
    table = list(csv.DictReader(taken["CSV"].decode().splitlines()))
    assert table == [{name: str(value) for name, value in one.items()} for one in cells]


def test_the_map_is_there_whatever_one_did_before_opening_it(browser: Browser, site: Site) -> None:
    """A closed fold is not drawn, so it must not miss what happened meanwhile; nor must one closed again."""
    with open_page(browser) as page:
        page.goto(site.url)
        expect(page.locator("#cost")).to_contain_text("nats")
        choose(page, "Fast decode")
        expect(page.locator("#cost")).to_contain_text("shared rotary dims")
        kept = []
        for percent, factor in ((25, "4.0×"), (75, "1.3×")):
            drag_to(page, percent)
            expect(page.locator("#cost")).to_contain_text(f"{factor} smaller")
            page.get_by_role("button", name="Tune").click()
            expect(page.locator(".pm canvas")).to_be_visible()
            kept.append(sum(len(row) for rows in outlined(page) for row in rows))
            page.get_by_role("button", name="Tune").click()
            expect(page.locator(".pm canvas")).to_be_hidden()
        assert kept[0] < kept[1]


def test_heads_must_keep_equally_many_pairs(browser: Browser, site: Site) -> None:
    """What is missing is counted beside the layer and said beside the heatmap; the button waits for it."""
    with open_page(browser) as page:
        page.goto(site.url)
        expect(page.locator("#cost")).to_contain_text("nats")
        choose(page, "MHA2MLA")
        expect(page.locator("#preset-note")).to_contain_text("MHA2MLA")
        page.get_by_role("button", name="Tune").click()
        expect(page.locator(".pm canvas")).to_be_visible()
        convert = page.get_by_role("button", name="Convert")
        expect(convert).to_be_enabled()
        spare = next(pair for pair in range(8) if pair not in outlined(page)[3][0])
        page.locator(".pm-row").select_option("0")
        click_pair(page, 3, spare)
        expect(page.locator(".pm-says")).to_contain_text("every KV head must keep equally many")
        expect(page.locator("#wrong-rope-pairs")).to_contain_text("layer 3")
        expect(convert).to_be_disabled()
        page.locator("#by-rule").click()
        expect(convert).to_be_enabled()
        expect(page.locator("#wrong-rope-pairs")).not_to_contain_text("layer 3")


def test_without_a_profile_it_is_offered_and_its_job_is_followed(browser: Browser, site: Site) -> None:
    """What would make the loss known, at what cost; its progress in place; nothing is predicted before."""
    with open_page(browser) as page:
        page.goto(site.url)
        expect(page.locator("#cost")).to_contain_text("nats")
        expect(page.locator("#make-profile")).to_be_hidden()
        model = page.locator("#model input")
        model.fill(str(site.bench.settings.models_dir / "other"))
        model.press("Enter")
        expect(page.locator("#cost")).to_contain_text("once the model has a profile")
        page.locator("#make-profile").click()
        expect(page.locator("#profile-progress")).to_contain_text("waits")
        assert newest(site).kind == "profile"
        job = site.bench.store.list(limit=1)[0]
        site.bench.store.claim(job.id, "worker", 1000)
        site.bench.store.fail(job.id, "worker", "out of memory", "try less")
        expect(page.locator("#profile-progress")).to_contain_text("out of memory")
        expect(page.locator("#make-profile")).to_be_visible()


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "dark"), (PHONE, "light")])
def test_the_view_fits_every_screen(browser: Browser, site: Site, size: tuple[int, int], scheme: str) -> None:
    """Everything open, nothing scrolls sideways; closed, a beginner sees model, slider and button."""
    with open_page(browser, size, scheme) as page:
        page.goto(site.url)
        expect(page.locator("#cost")).to_contain_text("nats")
        assert page.locator(".lb-bar").count() == 0, "tuning is out of sight until it is asked for"
        choose(page, "Fast decode")
        expect(page.locator("#cost")).to_contain_text("shared rotary dims")
        page.get_by_role("button", name="Tune").click()
        page.get_by_text("As a table").click()
        expect(page.locator(".pm canvas")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        rules = Axe().run(page).response["violations"]
        assert [one["help"] for one in rules if one["impact"] in ("serious", "critical")] == []
        SHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SHOTS / f"tune-{size[0]}-{scheme}.png", full_page=True)


def tune(page: Page, site: Site, preset: str = "Best quality") -> None:
    """Open the page in the tuning view, with a card that has its numbers."""
    page.goto(site.url)
    expect(page.locator("#cost")).to_contain_text("nats")
    if preset != "Best quality":
        choose(page, preset)
        expect(page.locator("#cost")).to_contain_text("shared rotary dims")
    page.get_by_role("button", name="Tune").click()
    expect(page.locator(".lb-bar")).to_have_count(LAYERS)
    expect(page.locator(".pm canvas")).to_be_visible()


def size_of(numbers: int) -> str:
    """As the card writes the bytes of so many numbers: the tiny model's stay below a megabyte."""
    value = numbers * BYTES
    return f"{value / 1000:.2f}\u202fKB"


def newest(site: Site) -> JobSpec:
    return site.bench.store.list(limit=1)[0].spec
