# SPDX-License-Identifier: Apache-2.0
"""Models from the Hub, with the real client and a real server on loopback."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import COMMIT, Hub, serving

from core.weights.index import read_index

CLI = Path(sys.executable).parent / "mla-workbench"
REPO = "owner/tiny"
SHARDED = "owner/sharded"

Cli = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def sharded(tiny_llama: Callable[..., Path]) -> Path:
    """A checkpoint of several shards, each larger than the client's first look at it."""
    from transformers import AutoModelForCausalLM

    folder = tiny_llama(vocab_size=4096)
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="600KB")
    assert len(list(folder.glob("*.safetensors"))) >= 2
    return folder


@pytest.fixture
def hub(tiny_checkpoint: Path, sharded: Path, tmp_path: Path) -> Iterator[Hub]:
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_bytes((tiny_checkpoint / "config.json").read_bytes())
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    with serving({REPO: tiny_checkpoint, SHARDED: sharded, "owner/pickled": pickled}) as found:
        yield found


@pytest.fixture
def environment(hub: Hub, tmp_path: Path) -> dict[str, str]:
    """Of a process whose Hub is ours and whose cache lives as long as the test."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return inherited | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "5",
        "MLA_DATA_DIR": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def fetch(environment: dict[str, str]) -> Callable[[str], Path]:
    """fetch("owner/name") -> the snapshot with its weights."""

    def run(repo: str) -> Path:
        code = f"from core.weights.locate import locate; print(locate({repo!r}).folder)"
        command, root = [sys.executable, "-c", code], Path(__file__).parents[2]
        return Path(subprocess.check_output(command, env=environment, cwd=root, text=True).strip())

    return run


@pytest.fixture
def cli(environment: dict[str, str]) -> Cli:
    """cli("inspect", "owner/name", HF_HUB_OFFLINE="1") -> (exit code, JSON)."""

    def run(*arguments: str, **changes: str) -> tuple[int, dict[str, Any]]:
        done = subprocess.run(
            [CLI, *arguments, "--json"],
            env=environment | changes,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert "Traceback" not in done.stderr, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return done.returncode, found

    return run


@pytest.mark.parametrize("repo", [REPO, SHARDED])
def test_inspect_fetches_headers_but_no_weights(repo: str, cli: Cli, hub: Hub) -> None:
    """The first 100 kB of each weight file are asked for, as they hold the header; nothing is cached."""
    code, found = cli("inspect", repo)
    assert (code, found["kind"], found["problems"]) == (0, "hub", [])
    files = sorted(hub.repos[repo].glob("*.safetensors"))
    for file in files:
        assert 0 < hub.sent(file.name) <= 100_001
    assert sum(hub.sent(file.name) for file in files) < sum(file.stat().st_size for file in files) / 2
    assert found["parameters"] == sum(info.numbers for info in read_index(hub.repos[repo]).values())
    assert not list(Path(found["folder"]).glob("*.safetensors"))


def test_the_revision_is_pinned_to_the_commit(cli: Cli, hub: Hub) -> None:
    assert cli("inspect", REPO)[1]["revision"] == COMMIT
    assert cli("inspect", REPO, "--revision", "main")[1]["revision"] == COMMIT
    # once the branch is resolved everything is asked for by commit: a push in between cannot mix two versions
    files = [request.path for request in hub.requests if "/resolve/" in request.path]
    assert files
    assert all(f"/resolve/{COMMIT}/" in path for path in files)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("owner/absent",), "the Hub does not give out owner/absent"),
        ((REPO, "--revision", "v9"), f"the Hub does not give out {REPO} at v9"),
        (("owner/pickled",), "owner/pickled is not stored as safetensors"),
    ],
)
def test_what_the_hub_does_not_have_is_a_clear_error(
    arguments: tuple[str, ...], message: str, cli: Cli
) -> None:
    code, found = cli("inspect", *arguments)
    assert code == 1
    assert found["error"] == message
    assert found["hint"]
    assert found["field"] == "model"


@pytest.fixture
def convert(cli: Cli, sample_text: Path) -> Cli:
    """convert("owner/name", out) with small texts."""

    def run(repo: str, out: Path, **environment: str) -> tuple[int, dict[str, Any]]:
        small = ("--calibration", str(sample_text), "--tokens", "128", "--context", "64")
        return cli("convert", repo, "--out", str(out), *small, "--evaluation", "none", **environment)

    return run


def test_convert_fetches_the_weights_and_later_works_offline(
    convert: Cli, cli: Cli, hub: Hub, tmp_path: Path
) -> None:
    code, found = convert(SHARDED, tmp_path / "online")
    assert code == 0, found
    asked = len(hub.requests)
    code, found = convert(SHARDED, tmp_path / "offline", HF_HUB_OFFLINE="1")
    assert code == 0, found
    assert len(hub.requests) == asked
    online, offline = (
        json.loads((tmp_path / name / "conversion.json").read_text()) for name in ("online", "offline")
    )
    assert online["base"]["name"] == SHARDED
    assert online["base"]["revision"] == COMMIT
    assert offline == online


def test_an_interrupted_download_is_finished(cli: Cli, fetch: Callable[[str], Path], hub: Hub) -> None:
    """Only some shards arrived: facts still come from the headers, and what is missing is fetched."""
    folder = Path(cli("inspect", SHARDED)[1]["folder"])
    first, *rest = sorted(hub.repos[SHARDED].glob("*.safetensors"))
    (folder / first.name).write_bytes(first.read_bytes())
    assert rest
    code, found = cli("inspect", SHARDED)
    assert (code, found.get("error")) == (0, None)
    assert read_index(fetch(SHARDED)).keys() == read_index(hub.repos[SHARDED]).keys()


@pytest.mark.parametrize("offline", ["0", "1"])
def test_without_the_hub_the_error_says_so(offline: str, cli: Cli, hub: Hub) -> None:
    """Config cached, weights not, server away (HF_ENDPOINT leads nowhere) or switched off."""
    cli("inspect", REPO)
    code, found = cli("inspect", REPO, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE=offline)
    assert code == 1
    assert "the Hub cannot be reached" in found["error"]
    assert "local folder" in found["hint"]
