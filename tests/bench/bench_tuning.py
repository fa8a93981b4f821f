# SPDX-License-Identifier: Apache-2.0
"""Slider to numbers: how long the server takes to answer a tuning step, over HTTP, in percentiles.

Two models that are headers alone, with made-up profiles of both presets: 30 layers of SmolLM2-135M's widths,
and 80 layers of 70B widths (hidden 8192, 64 heads, 8 KV heads of 128, 2048 numbers per token and layer). Each
line is one kind of request at budgets that never repeat. The time is the client's, on this machine, with one
request at a time; `server` is what the answer itself says of its own work.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from core.curves import LayerCurves, PairScores, RecipeCurves
from core.facts import ModelFacts, read_facts
from core.loss_fit import LossFit
from core.presets import PRESETS
from core.profiles import FILE, Profile
from core.profiling import POINTS, RECIPES, ROPE_KEEP, tried_widths
from core.settings import Settings
from core.spec import JobSpec
from core.widths import solve
from tests.core.conftest import SMOLLM_135M, llama_shapes, write_header

LLAMA_70B = {
    "model_type": "llama",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "rope_theta": 500000.0,
}
MODELS = {"30 layers": SMOLLM_135M, "80 layers": LLAMA_70B}
REPEATS = 60


def curves_of(facts: ModelFacts, preset: str, random: np.random.Generator) -> RecipeCurves:
    """Tails that fall as measured ones do, of very different sizes; one measured point to fit."""
    spec = JobSpec(recipe=PRESETS[preset].recipe)
    dims = tuple(sorted({one.rope_dim for one in tried_widths(spec, facts).values()}))
    width = facts.kv_numbers_per_layer
    ranks = tuple(sorted({round(index * width / POINTS) for index in range(POINTS + 1)}))
    shape = np.exp(-4 * np.array(ranks) / width) - np.exp(-4)
    layers = tuple(
        LayerCurves(
            rope_dims=dims,
            rope_lost=tuple(float(f"{9 / (1 + one):.6g}") for one in dims),
            tail=tuple(
                tuple(float(f"{size * value:.6g}") for value in shape)
                for size in 10 ** random.uniform(-2, 0, len(dims))
            ),
        )
        for _ in range(facts.layers)
    )
    kept = solve(spec.model_copy(update={"keep": ROPE_KEEP}), facts).rope_dim // 2
    drawn = random.random((facts.layers, facts.kv_heads, facts.head_dim // 2)).tolist()
    return RecipeCurves(
        recipe=spec.recipe,
        ranks=ranks,
        layers=layers,
        rope_weight=1e-3,
        fit=LossFit(knots=((1.0, 0.1), (10.0, 1.0)), slope=1.0, spread=1.3),
        points=(),
        pairs=PairScores(kept=kept, scores=drawn) if kept else None,
    )


def store_profile(home: Path, facts: ModelFacts) -> int:
    """Write a made-up profile of the model; returns its size in bytes."""
    random = np.random.default_rng(0)
    drawn = random.random((facts.layers, facts.kv_heads, facts.head_dim // 2)).tolist()
    profile = Profile(
        fingerprint=f"{facts.layers}",
        model=facts.name,
        text="wikipedia",
        tokens=32768,
        fisher_windows=16,
        inv_freq=tuple(1e4 ** -(np.arange(facts.head_dim // 2) * 2 / facts.head_dim)),
        contribution=drawn,
        recipes=tuple(curves_of(facts, preset, random) for preset in RECIPES),
    )
    folder = home / "profiles" / profile.fingerprint
    folder.mkdir(parents=True)
    return (folder / FILE).write_text(profile.model_dump_json())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """(data folder with a profile of each model, name of the model -> its folder)."""
    home, folders = tmp_path_factory.mktemp("data"), {}
    for name, config in MODELS.items():
        folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
        (folder / "config.json").write_text(json.dumps(config))
        write_header(folder / "model.safetensors", llama_shapes(config), "BF16")
        size = store_profile(home, read_facts(str(folder)))
        print(f"\nprofile of {name}: {size / 1e6:.2f} MB", end="")
        folders[name] = str(folder)
    return home, folders


@pytest.fixture(scope="module")
def server(models: tuple[Path, dict[str, str]]) -> Iterator[httpx.Client]:
    """The web process as it runs in production, alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = Settings(data_dir=models[0]).home
    command = ["uvicorn", "--factory", "app.main:create_app", "--port", str(port), "--log-level", "warning"]
    environment = os.environ | {"MLA_DATA_DIR": str(home), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", *command], env=environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=60) as client:
            _wait(client, process)
            yield client
    finally:
        process.terminate()
        process.wait()


def _wait(client: httpx.Client, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        assert process.poll() is None, "the server ended"
        try:
            client.get("/presets")
            return
        except httpx.ConnectError:
            time.sleep(0.1)
    raise AssertionError("the server did not start")


def test_slider_to_numbers(server: httpx.Client, models: tuple[Path, dict[str, str]]) -> None:
    print(f"\n{'':10} {'':26} {'p50':>8} {'p95':>8} {'p99':>8}  ms, of {REPEATS}; server p95")
    for name, folder in models[1].items():
        for preset in RECIPES:
            for what, ask in requests_of(folder, preset).items():
                _row(name, f"{what}, {preset}", *_timed(server, ask))


def requests_of(model: str, preset: str) -> dict[str, Callable[[float], tuple[str, dict[str, Any]]]]:
    """Kinds of requests: a budget between 0.1 and 0.9 -> (route, body)."""

    def spec(keep: float) -> dict[str, Any]:
        return {"model": model, "preset": preset, "keep": keep}

    def target(keep: float, **target: Any) -> tuple[str, dict[str, Any]]:
        return "/tune/target", {"spec": spec(0.3), "target": target}

    return {
        "estimate": lambda keep: ("/tune", spec(keep)),
        "redistribute": lambda keep: (
            "/tune/redistribute",
            {"spec": spec(keep), "locked": {"1": 20, "3": 9}},
        ),
        "target size": lambda keep: target(keep, kind="size", kilobytes=300 * keep),
        "target loss": lambda keep: target(keep, kind="loss", percent=100 * keep),
    }


def _timed(
    client: httpx.Client, ask: Callable[[float], tuple[str, dict[str, Any]]]
) -> tuple[list[float], list[float]]:
    """(milliseconds seen by the client, milliseconds the answer says) of every request."""
    seen, said = [], []
    for index in range(REPEATS + 3):
        route, body = ask(0.15 + 0.7 * index / (REPEATS + 3))
        started = time.perf_counter()
        answer = client.post(route, json=body)
        seen.append((time.perf_counter() - started) * 1000)
        assert answer.status_code == 200, answer.text
        said.append(answer.json().get("milliseconds", float("nan")))
    # the first ones read facts and profile
    return seen[3:], said[3:]


def _row(model: str, what: str, seen: list[float], said: list[float]) -> None:
    cuts = statistics.quantiles(seen, n=100)
    server = statistics.quantiles(said, n=100)[94]
    inside = "" if np.isnan(server) else f"{server:8.1f}"
    print(f"{model:10} {what:26} {cuts[49]:8.1f} {cuts[94]:8.1f} {cuts[98]:8.1f}  {inside}")
