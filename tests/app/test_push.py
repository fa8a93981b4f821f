# SPDX-License-Identifier: Apache-2.0
"""A finished conversion goes to the Hub: the real client and page against a Hub on loopback."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from app.services.push import PushError, push
from tests.app.browsing import Site, running_site
from tests.app.conftest import finish_job
from tests.app.hub_writer import TOKEN, HubWriter, accepting
from tests.browser import PHONE, open_page

pytestmark = [pytest.mark.browser, pytest.mark.process]
CLI = Path(sys.executable).parent / "mla-workbench"
FILES = {
    "config.json": b"{}",
    "README.md": b"---\nlicense: mit\n---\nA card.\n",
    "model-1.safetensors": bytes(range(256)) * 400,
    "model-2.safetensors": bytes(range(255, -1, -1)) * 400,
    "conversion.json": b'{"a": 1}',
}


@pytest.fixture(scope="module")
def hub() -> Iterator[HubWriter]:
    with accepting() as hub:
        yield hub


@pytest.fixture(scope="module")
def environment(hub: HubWriter) -> dict[str, str]:
    """The client reads these when it is imported. Its own storage protocol needs servers of its own."""
    return {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": ""}


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, environment: dict[str, str]
) -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with running_site(tmp_path_factory.mktemp("site"), tiny_checkpoint) as site:
            yield site


def test_a_push_is_refused_then_interrupted_then_done_and_the_token_stays_nowhere(
    browser: Browser, site: Site, hub: HubWriter
) -> None:
    job = finish_job(site.bench, FILES)
    with open_page(browser, PHONE) as page:
        page.goto(f"{site.url}/jobs/{job}")
        repo = page.get_by_role("textbox", name="Repository")
        token = page.get_by_label("Access token")
        state, start = page.locator("#push-state"), page.locator("#push-start")
        repo.fill("owner/tiny")
        start.click()
        expect(state).to_contain_text("a push needs a token")

        token.fill("hf_wrong")
        start.click()
        expect(state).to_contain_text("does not accept this token")
        expect(token).to_have_value("")

        hub.fails_at = 1
        token.fill(TOKEN)
        start.click()
        expect(state).to_contain_text("push again")
        assert (hub.uploads, hub.commits) == (1, 0)

        hub.fails_at = None
        token.fill(TOKEN)
        start.click()
        expect(state).to_contain_text(f"{hub.url}/owner/tiny")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        stored = page.evaluate("JSON.stringify(localStorage) + JSON.stringify(sessionStorage)")
    # the first large file was there already
    assert (hub.uploads, hub.commits, hub.visibility) == (2, 1, "private")
    assert hub.files == FILES
    home = site.bench.settings.home
    kept = [path for path in home.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert kept == []
    assert TOKEN not in stored


def test_the_command_line_pushes_the_same_and_sends_nothing_twice(
    site: Site, hub: HubWriter, environment: dict[str, str]
) -> None:
    job = finish_job(site.bench, FILES)
    said = os.environ | environment | {"HF_TOKEN": TOKEN, "MLA_DATA_DIR": str(site.bench.settings.home)}
    counted = []
    for _ in range(2):
        done = subprocess.run(
            [CLI, "push", job, "owner/tiny", "--public"],
            env=said,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == f"{hub.url}/owner/tiny"
        assert hub.files == FILES
        counted.append((hub.uploads, hub.commits))
    assert counted[0] == counted[1]


def test_a_hub_that_is_away_is_said_to_be_without_the_token(tmp_path: Path) -> None:
    """In this process the client is offline, which is the same for the person who presses the button."""
    file = tmp_path / "config.json"
    file.write_bytes(b"{}")
    with pytest.raises(PushError) as caught:
        push([("config.json", file)], "owner/tiny", TOKEN, private=True, report=lambda name, done: None)
    assert "cannot be reached" in caught.value.message
    assert TOKEN not in str(caught.value)
    with pytest.raises(PushError, match="not the name of a repository"):
        push([("config.json", file)], "no//name", TOKEN, private=True, report=lambda name, done: None)
