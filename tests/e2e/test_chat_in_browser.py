# SPDX-License-Identifier: Apache-2.0
"""From a finished job to a conversation with it and its original, as a person goes, on the real stack.

Everything is real but the size of the model: broker, workers, the process that answers, Chromium.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from safetensors.torch import load_file, save_file

from app.services.bell import CeleryBell
from core.settings import Settings
from core.spec import Calibration, JobSpec
from core.store import open_store
from core.store.views import FINAL, State
from core.weights.locate import DEMO_FOLDER
from tests.browser import DESKTOP, PHONE, launch, open_page
from tests.serve.serving import Serving

pytestmark = [pytest.mark.browser, pytest.mark.process]
SHOTS = Path(__file__).parents[1] / "_shots"
BOTH = 2


@dataclass(frozen=True)
class Bench:
    """What `serve` shows, and a finished conversion of its demo."""

    url: str
    serving: Serving
    job: str


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launch() as browser:
        yield browser


@pytest.fixture(scope="module")
def served(tiny_llama: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """`serve` with a tiny model in the place of the demo."""
    home = tmp_path_factory.mktemp("chat")
    settings = Settings(data_dir=home, port=0, threads=1)
    settings.models_dir.mkdir(parents=True)
    demo = tiny_llama(max_position_embeddings=8192).rename(settings.models_dir / DEMO_FOLDER)
    _make_endless(demo / "model.safetensors")
    serving = Serving(settings, home / "serve.txt")
    yield serving
    serving.close()


@pytest.fixture(scope="module")
def bench(served: Serving, sample_text: Path) -> Bench:
    """A real conversion, done by the worker."""
    spec = JobSpec(
        calibration=Calibration(text=str(sample_text), tokens=2048, context=64),
        evaluation=None,
        keep=0.5,
        preset="quality",
    )
    url = served.wait_for_page()
    with closing(open_store(served.settings)) as store:
        job = store.submit(spec).id
        assert CeleryBell(served.settings).ring(job)
        served.wait(lambda: store.get(job).state in FINAL)
        assert store.get(job).state is State.DONE, store.get(job).reason + store.get(job).log_tail
    return Bench(url, served, job)


def test_before_anything_is_converted_the_page_says_what_to_do(served: Serving, browser: Browser) -> None:
    url = served.wait_for_page()
    with open_page(browser) as page:
        page.goto(f"{url}/chat")
        expect(page.locator("#start")).to_contain_text("Nothing has been converted yet")
        expect(page.get_by_role("link", name="Convert a model")).to_have_attribute("href", "/")
        expect(page.locator("#memory-1")).to_contain_text("your prompt loads")
        page.get_by_role("button", name="Ask").click()
        expect(page.locator("#refused")).to_contain_text("the prompt is empty")


def test_two_clicks_from_a_job_to_both_models_answering(bench: Bench, browser: Browser) -> None:
    with open_page(browser) as page:
        page.goto(f"{bench.url}/jobs/{bench.job}")
        page.get_by_role("link", name="Chat", exact=True).last.click()
        expect(page).to_have_url(re.compile(r"/chat\?models="))
        page.locator("#examples button").first.click()
        answers = page.locator(".answer")
        expect(answers).to_have_count(BOTH)
        expect(page.locator(".answer[data-state=done]")).to_have_count(BOTH)
        for place, share in enumerate((None, "50")):
            expect(answers.nth(place).locator(".chip-measured")).to_have_count(BOTH)
            assert _rate(answers.nth(place).inner_text()) > 0
            if share:
                expect(answers.nth(place)).to_contain_text(re.compile(rf"{share}\s%\sof the original's"))
            expect(page.locator(f"#memory-{place + 1}")).to_contain_text("in memory")
        said = answers.all_inner_texts()
        page.reload()
        expect(page.locator(".answer[data-state=done]")).to_have_count(BOTH)
        assert page.locator(".answer").all_inner_texts() == said, "a reload finds the conversation again"


def test_answers_grow_before_ones_eyes_until_stop(bench: Bench, browser: Browser) -> None:
    with open_page(browser) as page:
        page.goto(f"{bench.url}/chat?models=demo,job:{bench.job}")
        expect(page.get_by_role("button", name="Ask")).to_be_enabled()
        page.get_by_role("button", name="Sampling").click()
        page.get_by_label("Longest answer, tokens").fill("4096")
        page.locator("#prompt textarea").fill("go on and on")
        page.locator("#prompt textarea").press("Enter")
        expect(page.locator(".answer .cursor")).to_have_count(BOTH)
        before = [_cached(one) for one in page.locator(".answer").all_inner_texts()]
        expect(page.locator("#prompt textarea")).to_have_value("")
        page.wait_for_function(
            "before => [...document.querySelectorAll('.answer .caption')].every((one, place) =>"
            " parseInt(one.innerText.replace(/\\D*([\\d\\s]+?) tokens.*/s, '$1').replace(/\\s/g, ''))"
            " > before[place] + 50)",
            arg=before,
        )
        expect(page).to_have_title(re.compile("^answering"))
        _shoot(page, "chat-streaming")
        page.get_by_role("button", name="Stop").click()
        expect(page.locator(".answer[data-state=stopped]")).to_have_count(BOTH)
        expect(page.get_by_role("button", name="Ask")).to_be_visible()
        page.locator("#prompt textarea").fill("half a thou")
        page.reload()
        expect(page.locator("#prompt textarea")).to_have_value("half a thou")
        expect(page.locator(".asked")).to_have_text("go on and on")
        page.get_by_role("button", name="New conversation").click()
        expect(page.locator("#examples button").first).to_be_visible()
        expect(page.locator(".answer")).to_have_count(0)


def test_a_past_conversation_is_opened_continued_and_deleted(bench: Bench, browser: Browser) -> None:
    """Two conversations; the older one is found again, answers once more, and is then deleted."""
    with open_page(browser, PHONE) as page:
        for prompt in ("of cabbages", "of kings"):
            page.goto(f"{bench.url}/chat?models=demo")
            page.locator("#model-1 input").wait_for()
            _ask(page, prompt)
            expect(page.locator(".answer[data-state=done]")).to_have_count(1)
        page.get_by_role("button", name="Earlier conversations").click()
        rows = page.locator("#conversations tbody tr")
        expect(rows.first).to_contain_text("of kings")
        expect(rows.first).to_have_attribute("aria-current", "true")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        page.get_by_role("link", name="of cabbages").click()
        expect(page.locator(".asked")).to_have_text("of cabbages")
        _ask(page, "of sealing wax")
        expect(page.locator(".answer[data-state=done]")).to_have_count(2)
        page.get_by_role("button", name="Earlier conversations").click()
        expect(rows.first).to_contain_text("of cabbages")
        expect(rows.first.locator("[data-label=prompts]")).to_have_text("2")
        _shoot(page, "chat-earlier")
        page.get_by_role("button", name="Delete conversation of cabbages").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(page.get_by_role("link", name="of cabbages")).to_have_count(0)
        # it was the open one: there is a new one to begin
        expect(page.locator("#examples button").first).to_be_visible()
        expect(page.locator(".answer")).to_have_count(0)
        expect(page.get_by_role("link", name="of kings")).to_be_visible()


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "dark"), (PHONE, "light")])
def test_a_third_model_and_a_second_turn_on_every_screen(
    bench: Bench, browser: Browser, size: tuple[int, int], scheme: str
) -> None:
    job = f"job:{bench.job}"
    with open_page(browser, size, scheme) as page:
        page.goto(f"{bench.url}/chat?models=demo,{job},demo")
        expect(page.get_by_role("button", name="Ask")).to_be_enabled()
        for number, prompt in enumerate(("first", "second"), start=1):
            page.locator("#prompt textarea").fill(prompt)
            page.get_by_role("button", name="Ask").click()
            expect(page.locator(".answer[data-state=done]")).to_have_count(3 * number)
        texts = page.locator("#live .said").all_inner_texts()
        assert texts[0] == texts[2], "equal seeds, equal models, equal words"
        boxes = [one.bounding_box() for one in page.locator("#live .answer").all()]
        tops = {round(box["y"]) for box in boxes if box}
        assert len(tops) == (3 if size == PHONE else 1), "columns stack on a phone"
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        _shoot(page, f"chat-{size[0]}-{scheme}")


def _ask(page: Page, prompt: str) -> None:
    expect(page.get_by_role("button", name="Ask")).to_be_enabled()
    page.locator("#prompt textarea").fill(prompt)
    page.get_by_role("button", name="Ask").click()


def _rate(text: str) -> float:
    """Tokens per second as shown."""
    return float(re.findall(r"tokens/s\s+([\d.]+)", text)[0])


def _cached(text: str) -> int:
    """Tokens the cache holds, as shown; none while the prompt is read."""
    found = re.findall(r"([\d\s]+) tokens ×", text)
    return int(re.sub(r"\s", "", found[0])) if found else 0


def _make_endless(weights: Path) -> None:
    """The end token's logit becomes 0, which is never the largest: random answers go on to their limit."""
    tensors = load_file(weights)
    tensors["model.embed_tokens.weight"][1] = 0
    save_file(tensors, weights, metadata={"format": "pt"})


def _shoot(page: Page, name: str) -> None:
    SHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)
