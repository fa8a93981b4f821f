# SPDX-License-Identifier: Apache-2.0
"""The form as a person fills it in, in a real browser on a real server. The engine is not needed here."""

import re

import pytest
from playwright.sync_api import Browser, expect

from tests.app.browsing import Site, choose, drag_to, pick
from tests.browser import open_page

pytestmark = [pytest.mark.browser, pytest.mark.process]


def test_three_clicks_from_model_to_job(browser: Browser, site: Site) -> None:
    """Numbers follow the slider, Convert leads to the job's own address, which a second browser can open."""
    with open_page(browser) as page:
        page.goto(site.url)
        card = page.locator("#cost")
        expect(card).to_contain_text("3.2× smaller")
        drag_to(page, 50)
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
        # what was stored, in a browser whose form says something else
        expect(other.locator("#spec")).to_contain_text("keep 50")


def test_the_first_screen_is_a_model_a_wish_two_budgets_and_one_button(browser: Browser, site: Site) -> None:
    """All else is folded away; bytes, weights and time answer in the card while one drags."""
    with open_page(browser) as page:
        page.goto(site.url)
        expect(page.get_by_role("button", name="Convert")).to_be_enabled()
        buttons = {one.inner_text().partition("\n")[0] for one in page.get_by_role("button").all()}
        folded = {"Tune", "All stages", "Recipe as text"}
        assert buttons == {*folded, "Convert", "Make the profile (some minutes)"}
        boxes = page.locator("input:visible, select:visible, textarea:visible")
        wishes, slider = (page.locator(f"{one} input:visible").count() for one in ("#preset", "#keep"))
        # the budget of weights is a box to tick until somebody wants it
        assert boxes.count() == 1 + wishes + slider + 1
        card, answers = page.locator("#cost"), []
        for percent, factor in ((50, "2.0×"), (31.25, "3.2×")):
            drag_to(page, percent)
            expect(card).to_contain_text(f"{factor} smaller")
            answers.append(re.findall(r"Parameters\n(.+)", card.inner_text())[0])
            expect(card).to_contain_text("known once a first job was done here")
        assert answers[0] != answers[1]
        assert re.search(r"−\d\.\d", answers[1]), answers


def test_what_cannot_work_says_how_to_fix_it_and_disables_the_button(browser: Browser, site: Site) -> None:
    """Beside the field, in words; the button comes back with a value that works."""
    with open_page(browser) as page:
        page.goto(site.url)
        convert = page.get_by_role("button", name="Convert")
        expect(convert).to_be_enabled()
        # best quality caches no rotary dims, so a latent always finds room
        choose(page, "MHA2MLA")
        # a preset brings its own budget: what is dragged before it has arrived would be lost
        expect(page.locator("#preset-note")).to_contain_text("MHA2MLA")
        drag_to(page, 3)
        expect(page.locator("#wrong-budget")).to_contain_text("leaves no room for a latent")
        expect(page.locator("#wrong-budget")).to_contain_text("keep at least")
        expect(convert).to_be_disabled()
        drag_to(page, 60)
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
            choose(page, preset)
            expect(page.locator("#recipe-layout input")).to_have_value(re.compile(f"^{re.escape(layout)}:"))
            expect(page.locator("#recipe-rope-mix input")).to_have_value(re.compile(f"^{mix}:"))
            expect(page.locator("#recipe-freqfold input")).to_have_value(fold)
            expect(page.locator("#recipe-mean-bias input")).to_be_checked(checked=preset != "MHA2MLA")
            expect(page.locator("#rope-dim")).to_contain_text(rotary)
        choose(page, "Fast decode")
        expect(page.locator("#rope-dim input")).to_be_enabled()
        expect(page.locator("#cost")).to_contain_text("shared rotary dims")


def test_choices_that_do_not_go_together_are_named_beside_the_box(browser: Browser, site: Site) -> None:
    """What opens is what holds the problem; the button comes back with choices that work."""
    with open_page(browser) as page:
        page.goto(site.url)
        convert = page.get_by_role("button", name="Convert")
        expect(convert).to_be_enabled()
        page.get_by_role("button", name="All stages").click()
        pick(page, "#recipe-rope-mix", "roro")
        expect(page.locator("#wrong-layout")).to_contain_text("drops no rotation")
        expect(page.locator("#wrong-layout")).to_contain_text("rope_mix none")
        expect(convert).to_be_disabled()
        expect(page.locator("#preset-note")).to_contain_text("Changed: Head mixing")
        pick(page, "#recipe-layout", "latent+rope")
        expect(page.locator("#wrong-rope-select")).to_contain_text("rope_mix leaves none")
        pick(page, "#recipe-rope-select", "logit-damage")
        expect(convert).to_be_enabled()
        page.locator("#recipe-rope-mix").scroll_into_view_if_needed()
        pick(page, "#recipe-rope-mix", "none")
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
        drag_to(page, 75)
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
