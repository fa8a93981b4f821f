# SPDX-License-Identifier: Apache-2.0
"""What a person does with the demo on the real site, step by step."""

import re
import shutil
import tarfile
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

SHOTS = Path(__file__).parents[1] / "_shots"
# What is shown is the way, not the recipe. Fewer than 576 tokens would leave holes in the covariance of a
# model of that width; short windows make what is tried on held-back text short, too.
TOKENS, CONTEXT, FISHER_TOKENS, EVALUATION_WINDOWS = 640, 128, 256, 1

GENERATE = """
import os, sys
os.environ["HF_HUB_OFFLINE"] = "1"
from transformers import AutoModelForCausalLM, AutoTokenizer
folder = sys.argv[1]
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
prompt = tokenizer("The capital of France is", return_tensors="pt")
answer = model.generate(**prompt, max_new_tokens=8, min_new_tokens=8, do_sample=False)
print(type(model).__name__, answer.shape[1] - prompt["input_ids"].shape[1])
"""


def fill_sweep(page: Page, budgets: str) -> None:
    """The best quality alone, at `budgets`, and little to read."""
    expect(page.locator("#grid tbody tr").first).to_be_visible()
    page.locator("#sweep-presets label", has_text="Fast decode").click()
    page.get_by_role("button", name="How much is read").click()
    boxes: dict[str, str | int] = {
        "Budgets": budgets,
        "Calibration tokens": TOKENS,
        "Tokens per window": CONTEXT,
        "Tokens with gradients": FISHER_TOKENS,
        "Evaluation windows": EVALUATION_WINDOWS,
    }
    for label, value in boxes.items():
        box = page.get_by_label(label)
        box.fill(str(value))
        box.press("Tab")


def clone(page: Page, url: str, job: str) -> None:
    """From a job's page back to the form, filled with what the job was asked."""
    page.goto(f"{url}/jobs/{job}")
    page.locator("#clone").click()
    expect(page).to_have_url(re.compile(rf"\?from={job}$"))
    expect(page.locator("#lineage")).to_contain_text(job)
    expect(page.locator("#cost")).to_contain_text("nats")


def tune(page: Page, layers: int) -> None:
    """Open the tuning view."""
    page.get_by_role("button", name="Tune").click()
    expect(page.locator(".lb-bar")).to_have_count(layers)
    expect(page.locator(".pm canvas")).to_be_visible()


def enter(page: Page, button: str, **numbers: float) -> None:
    """Fill the boxes of a target and press its button."""
    for box, number in numbers.items():
        page.locator(f"#target-{box} input").fill(f"{number:g}")
    page.locator(button).click()


def convert(page: Page) -> str:
    """Press the button; the id of the job whose page opens."""
    button = page.get_by_role("button", name="Convert")
    expect(button).to_be_enabled()
    button.click()
    expect(page).to_have_url(re.compile(r"/job\?id=\w+$"))
    return page.url.partition("id=")[2]


def point_at(page: Page, point: Locator) -> tuple[float, float]:
    """Move to a point of a plot, as plotly wants to be told: it looks where the pointer moves."""
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 30, y)
    page.mouse.move(x, y, steps=5)
    return x, y


def plots_without_links(page: Page) -> list[str]:
    """Plots that are seen and do not offer two kinds of picture and two of their data."""
    found: list[str] = page.locator(".js-plotly-plot:visible").evaluate_all(
        "plots => plots.map(plot => plot.closest('.block[id]').id)"
    )
    assert found
    takes = {one: page.locator(".take", has=page.locator(f"button[data-plot='{one}']")) for one in found}
    return [one for one, take in takes.items() if take.locator("button, a[download]").count() != 4]


def talk(page: Page) -> None:
    """Chat, and one of the questions it offers: both models answer in words, each with its own cache."""
    page.get_by_role("link", name="Chat", exact=True).last.click()
    page.locator("#examples button").first.click()
    expect(page.locator(".answer[data-state=done]")).to_have_count(2, timeout=300_000)
    said = page.locator(".answer .said").all_inner_texts()
    assert len(said) == 2
    # so little text is calibrated on that the converted model may be brief
    assert all(len(one.split()) > 2 for one in said), said
    expect(page.locator(".answer").nth(1)).to_contain_text(re.compile(r"31\s%\sof the original's"))


def download(page: Page, folder: Path) -> Path:
    """The archive as the browser saves it, unpacked."""
    with page.expect_download(timeout=120_000) as download:
        page.get_by_role("link", name=re.compile("Download archive")).click()
    archive = folder / download.value.suggested_filename
    shutil.copyfile(download.value.path(), archive)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


def shoot(page: Page, name: str, size: tuple[int, int]) -> None:
    """Nothing but table frames scrolls sideways; the picture is for people."""
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    SHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SHOTS / f"e2e-{name}-{size[0]}.png", full_page=True)
