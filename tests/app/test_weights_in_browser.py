# SPDX-License-Identifier: Apache-2.0
"""The second budget as a person sets it: control, card, job, and what the job's page says was saved."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from tests.app.browsing import Site
from tests.app.real_jobs import work_off
from tests.browser import open_page

pytestmark = [pytest.mark.browser, pytest.mark.process]


def test_a_budget_of_weights_from_the_box_to_the_saving_in_the_job(browser: Browser, site: Site) -> None:
    """Off at first; on, by keyboard, with its stages; refused as a target of loss; measured by the job."""
    with open_page(browser) as page:
        page.goto(site.url)
        card, slider = page.locator("#cost"), page.locator("#weights-keep input[type=range]")
        expect(card).to_contain_text("3.2× smaller")
        expect(slider).to_be_hidden()
        expect(card).not_to_contain_text("Linear layers")
        page.get_by_role("button", name="All stages").click()
        expect(page.locator("#no-weights")).to_contain_text("No effect while the weights stay whole")
        expect(page.locator("#weights-stages")).to_be_hidden()
        page.get_by_label("Shrink the weights, too").focus()
        page.keyboard.press("Space")
        expect(page.locator("#weights-stages")).to_be_visible()
        expect(page.locator("#no-weights")).to_be_hidden()
        expect(card).to_contain_text(re.compile(r"Linear layers, parameters.*−2\d\.\d"))
        slider.focus()
        for _ in range(4):
            page.keyboard.press("ArrowLeft")
        expect(page.locator("#weights-keep input[type=number]")).to_have_value("78")
        expect(card).to_contain_text(re.compile(r"−2[2-5]\.\d"))
        expect(card).to_contain_text("not what smaller weights do")
        expect(page.locator("#wrong-weights a", has_text="junction")).to_have_attribute(
            "title", re.compile("r²")
        )
        rules = Axe().run(page).response["violations"]
        assert [one["help"] for one in rules if one["impact"] in ("serious", "critical")] == []
        page.get_by_role("button", name="Tune").click()
        page.locator("#target-percent input").fill("5")
        page.locator("#set-loss").click()
        expect(page.locator("#wrong-loss")).to_contain_text("while weights_keep is set")
        page.locator("#calibration-tokens input").fill("1024")
        expect(page.locator("#copies")).to_contain_text("--tokens 1024")
        page.get_by_role("button", name="Convert").click()
        expect(page).to_have_url(re.compile(r"/job\?id=\w+$"))
        job = site.bench.store.get(page.url.partition("id=")[2])
        assert job.spec.weights_keep == 0.78
        work_off(site.bench, job.id)
        page.reload()
        saved = page.locator("#quality tr", has_text="linear layers, parameters")
        expect(saved).to_contain_text("calculated")
        expect(page.locator("#quality")).to_contain_text("linear layers, per token")
        expect(page.locator("#summary")).to_contain_text(re.compile(r"−2[2-5]\.\d"))
        expect(page.locator("#spec")).to_contain_text("keep 78")
