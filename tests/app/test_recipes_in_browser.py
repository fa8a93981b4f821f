# SPDX-License-Identifier: Apache-2.0
"""Recipes, uploads, clones and found models as a person uses them, in a real browser on a real server."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from app.services.recipes import read_recipe
from app.services.text_names import friendly
from core.calibrate.tokens import tokenize
from core.spec import JobSpec
from core.weights.locate import DEMO_FOLDER
from tests.app.browsing import Site, choose, drag_to, running_site
from tests.browser import PHONE, open_page
from tests.core.hub_server import Hub, serving

pytestmark = [pytest.mark.browser, pytest.mark.process]

PROSE = "The cache of a transformer grows with every token it has read. " * 400


@pytest.fixture(scope="module")
def hub(tiny_checkpoint: Path) -> Iterator[Hub]:
    with serving({"owner/tiny-llama": tiny_checkpoint}) as hub:
        yield hub


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, hub: Hub) -> Iterator[Site]:
    """Online to a Hub of its own."""
    home = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HF_ENDPOINT", hub.url)
        environment.setenv("HF_HUB_OFFLINE", "0")
        environment.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        environment.setenv("HF_HOME", str(home / "hub"))
        with running_site(home, tiny_checkpoint) as site:
            yield site


def opened(page: Page, url: str, *folds: str) -> Locator:
    """The New page with some of it unfolded; returns the text of the recipe."""
    page.goto(url)
    expect(page.locator("#cost")).to_contain_text("smaller")
    for fold in folds:
        page.get_by_role("button", name=fold).click()
    return page.locator("#recipe-text textarea")


def give(page: Page, button: str, file: Path) -> None:
    """Press a button that asks for a file, and choose one."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=button).click()
    chooser.value.set_files(file)


def spec_behind(page: Page, site: Site) -> JobSpec:
    """What is stored of the job whose page is open; uploads by their names."""
    expect(page).to_have_url(re.compile(r"/job\?id=\w+$"))
    return friendly(site.bench.settings, site.bench.store.get(page.url.rpartition("=")[2]).spec)


def test_an_uploaded_text_a_recipe_and_its_clone(browser: Browser, site: Site, tmp_path: Path) -> None:
    """Upload, edit the text, apply, convert, clone, change one thing, convert: exactly that is stored."""
    prose = tmp_path / "my prose.txt"
    prose.write_text(PROSE, encoding="utf-8")
    with open_page(browser) as page:
        recipe = opened(page, site.url, "Tune", "Recipe as text")
        give(page, "Upload a text", prose)
        tokens = len(tokenize(site.bench.settings.models_dir / DEMO_FOLDER, PROSE))
        counted = f"{tokens:,}".replace(",", "\u202f")
        expect(page.locator("#upload-note")).to_contain_text(f"my prose: uploaded, {counted} tokens")
        expect(recipe).to_have_value(re.compile(r'text: "upload:my prose" '))

        text = recipe.input_value().replace("keep: 0.3125", "keep: 0.3141")
        recipe.fill(re.sub(r"windows: \d+", "windows: 3", text).replace("seed: 0", "seed: 11"))
        page.get_by_role("button", name="Apply to the form").click()
        expect(page.locator("#keep input[type=number]")).to_have_value("31.5")
        asked = read_recipe(recipe.input_value())
        assert (asked.keep, asked.calibration.seed, asked.evaluation.windows) == (0.3141, 11, 3)  # type: ignore[union-attr]
        page.get_by_role("button", name="Convert").click()
        assert spec_behind(page, site) == asked
        expect(page.locator("#spec")).to_contain_text("upload:my prose")

        first = page.url.rpartition("=")[2]
        page.goto(f"{site.url}/?from={first}")
        line = page.locator("#lineage")
        expect(line).to_contain_text(f"Cloned from {first}: nothing differs yet")
        choose(page, "Fast decode")
        expect(line).to_contain_text("Cache layout")
        expect(line).to_contain_text("pre-rope→latent+rope")
        page.reload()
        # a clone that was changed survives a reload
        expect(line).to_contain_text("Cache layout")
        page.get_by_role("button", name="Convert").click()
        cloned = spec_behind(page, site)
        assert (cloned.preset, cloned.calibration) == ("fast", asked.calibration)
        assert cloned.evaluation == asked.evaluation
        second = page.url.rpartition("=")[2]
        assert site.bench.store.get(second).parent_id == first
        expect(page.locator("#spec")).to_contain_text(f"Cloned from {first}, differs in")
        expect(page.locator("#spec")).to_contain_text("preset")


def test_an_untouched_clone_is_the_same_request(browser: Browser, site: Site, tiny_checkpoint: Path) -> None:
    """Fields without a box, a budget between two positions of the slider, widths set by hand."""
    spec = JobSpec(
        model="demo",
        keep=None,
        rope_dim=4,
        kv_rank=7,
        recipe={"rope_select": "high"},  # type: ignore[arg-type]
        shard_bytes=2_000_000,
        dtype="float32",
        evaluation=None,
    )
    parent = site.bench.store.submit(spec)
    with open_page(browser) as page:
        opened(page, f"{site.url}/?from={parent.id}")
        expect(page.locator("#lineage")).to_contain_text("nothing differs yet")
        # what has no box is said all the same
        expect(page.locator("#recipe-unseen")).to_contain_text("dtypecheckpoint→float32")
        page.get_by_role("button", name="Convert").click()
        assert spec_behind(page, site) == spec


def test_an_invalid_recipe_changes_nothing(browser: Browser, site: Site) -> None:
    """The line and the fix stand beside the text, which stays; a change of the form writes it anew."""
    with open_page(browser, PHONE) as page:
        recipe = opened(page, site.url, "Recipe as text")
        expect(recipe).to_have_value(re.compile("model: demo"))
        recipe.fill("model: demo\nkeep: 0.5\nrecipe:\n  rope_mx: none\n")
        recipe.blur()
        wrong = page.locator("#wrong-recipe")
        expect(wrong).to_contain_text("line 4: there is no field 'rope_mx'")
        expect(wrong).to_contain_text("did you mean 'rope_mix'?")
        expect(page.locator("#keep input[type=number]")).to_have_value("31.25")
        assert "rope_mx" in recipe.input_value()
        # what was edited last counts: it is not passed over in silence
        before = site.bench.store.count()
        page.get_by_role("button", name="Convert").click()
        expect(page.locator(".trouble", has_text="line 4")).to_have_count(2)
        assert site.bench.store.count() == before
        # nothing scrolls sideways, however long the lines of the text are
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE[0]
        drag_to(page, 50)
        expect(recipe).to_have_value(re.compile(r"keep: 0\.5 "))
        expect(wrong).to_be_hidden()


def test_a_recipe_goes_out_as_a_file_and_comes_back(browser: Browser, site: Site, tmp_path: Path) -> None:
    with open_page(browser) as page:
        recipe = opened(page, site.url, "Recipe as text")
        page.locator("#recipe-as label", has_text="JSON").click()
        expect(recipe).to_have_value(re.compile(r'"model": "demo"'))
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save as a file").click()
        assert saved.value.suggested_filename == "recipe.json"
        said = json.loads(Path(saved.value.path()).read_text(encoding="utf-8"))
        file = tmp_path / "mine.yaml"
        file.write_text("# mine\nmodel: demo\nkeep: 0.4\npreset: mha2mla\n", encoding="utf-8")
        give(page, "Open a file", file)
        expect(page.locator("#keep input[type=number]")).to_have_value("40")
        expect(page.locator("#preset-note")).to_contain_text("MHA2MLA")
        # a browser writes YAML as JSON here, because that is what is shown
        assert read_recipe(recipe.input_value()).preset == "mha2mla"
        file.write_text("keep: much", encoding="utf-8")
        give(page, "Open a file", file)
        expect(page.locator("#wrong-recipe")).to_contain_text("line 1: keep")
        expect(page.locator("#keep input[type=number]")).to_have_value("40")
    assert said["keep"] == 0.3125


def test_a_file_that_is_no_text_is_refused_beside_the_button(
    browser: Browser, site: Site, tmp_path: Path
) -> None:
    image = tmp_path / "picture.txt"
    image.write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    with open_page(browser) as page:
        opened(page, site.url, "Tune")
        give(page, "Upload a text", image)
        expect(page.locator("#upload-note")).to_contain_text("binary file")
        expect(page.locator("#upload-note")).to_contain_text("give plain text")


def test_models_are_found_while_their_name_is_typed(browser: Browser, site: Site, hub: Hub) -> None:
    """From three letters on the Hub is asked; a path is never sent there."""
    with open_page(browser) as page:
        opened(page, site.url)
        box = page.locator("#model input")
        box.click()
        box.fill("")
        box.press_sequentially("/etc")
        asked = len(hub.requests)
        box.fill("")
        box.press_sequentially("tiny")
        found = page.locator("#model [role=option]", has_text="owner/tiny-llama")
        expect(found).to_contain_text("downloads a month")
        assert all("etc" not in one.path for one in hub.requests[:asked])
        found.click()
        expect(page.locator("#facts")).to_contain_text("4 layers")


def test_a_clone_of_a_job_there_is_not_is_said(browser: Browser, site: Site) -> None:
    with open_page(browser) as page:
        opened(page, f"{site.url}/?from=absent")
        expect(page.locator("#lineage")).to_contain_text("no job 'absent'")
