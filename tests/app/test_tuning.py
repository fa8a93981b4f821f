# SPDX-License-Identifier: Apache-2.0
"""Tuning on a real profile of a tiny model: layers add up, budgets are kept, targets are met."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from app.main import create_api
from app.services.estimate import Estimate, estimate
from app.services.tuning import (
    LossTarget,
    RoomTarget,
    SizeTarget,
    keep_for,
    nats_of,
    pair_scores,
    redistribute,
)
from app.services.workbench import Workbench
from app.ui.components.cost import cost_card
from core import kinds
from core.arch import find_architecture
from core.calibrate.layer_statistics import load_statistics
from core.convert import convert_layer
from core.errors import SpecError
from core.events import NeverCancel, NullSink
from core.facts import read_facts
from core.layer_weights import attention_weights
from core.settings import Settings
from core.spec import Calibration, JobSpec
from core.weights.skeleton import Skeleton
from core.weights.tensors import TensorSource
from core.workspace import Workspace

PRESETS = ("quality", "fast")
# 4 layers, 2 KV heads of 16 dims (8 pairs), float32: 64 numbers of 4 bytes per token and layer
LAYERS, HEADS, PAIRS, NUMBERS, BYTES = 4, 2, 8, 64, 4


class SilentBell:
    """Nobody works here."""

    def ring(self, job_id: str) -> bool:
        return bool(job_id)

    def ring_chat(self) -> bool:
        return True


@pytest.fixture(scope="module")
def converted(
    tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, sample_text: Path
) -> dict[str, Any]:
    """A profile, and what a conversion by the rule keeps with it."""
    home = tmp_path_factory.mktemp("tuning")
    settings = Settings(data_dir=home)
    calibration = Calibration(text=str(sample_text), tokens=256, context=64)
    spec = JobSpec(kind="profile", model=str(tiny_checkpoint), calibration=calibration)
    workspace = Workspace(work=home / "work", result=home / "result")
    kinds.run(spec, workspace, NullSink(), NeverCancel(), settings)
    asked = {"model": str(tiny_checkpoint), "calibration": calibration.model_dump(), "evaluation": None}
    return {"settings": settings, "asked": asked}


@pytest.fixture(scope="module")
def client(converted: dict[str, Any]) -> Iterator[TestClient]:
    with TestClient(create_api(converted["settings"], SilentBell())) as client:
        yield client


@pytest.fixture(scope="module")
def bench(client: TestClient) -> Workbench:
    workbench = client.app.state.workbench  # type: ignore[attr-defined]
    assert isinstance(workbench, Workbench)
    return workbench


@pytest.fixture(scope="module")
def asked(converted: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = converted["asked"]
    return found


def answer(bench: Workbench, data: dict[str, Any], context: int = 1000) -> Estimate:
    found = estimate(bench, data, context, 2)
    assert not found.problems
    return found


@pytest.mark.parametrize("preset", PRESETS)
def test_layers_are_the_plans_and_their_losses_add_up(
    preset: str, bench: Workbench, asked: dict[str, Any]
) -> None:
    found = answer(bench, asked | {"preset": preset, "keep": 0.5})
    assert found.allocation == "loss-aware"
    assert found.plan is not None
    assert found.prediction is not None
    assert [layer.rank for layer in found.layers] == [layer.kv_lora_rank for layer in found.plan.layers]
    # the budget is spent, to the number
    assert sum(layer.cached_numbers for layer in found.layers) == LAYERS * NUMBERS // 2
    assert found.cache_bytes_after == 2 * 1000 * BYTES * sum(one.cached_numbers for one in found.layers)
    losses = [layer.loss for layer in found.layers if layer.loss is not None]
    assert len(losses) == LAYERS
    assert math.isclose(sum(losses), found.prediction.loss, rel_tol=1e-9)
    assert all(1 <= layer.rank <= layer.most_rank for layer in found.layers)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_foreseen_allocation_loses_no_more_than_an_even_one(
    preset: str, bench: Workbench, asked: dict[str, Any]
) -> None:
    request = asked | {"preset": preset, "keep": 0.4}
    spread = answer(bench, request).prediction
    even = answer(bench, request | {"recipe": {"allocate": "uniform"}}).prediction
    assert spread is not None
    assert even is not None
    # tempering gives a little of the predicted gain away, and the stored tails are rounded
    assert spread.loss <= even.loss * 1.02


def test_without_a_profile_of_the_recipe_layers_are_open(bench: Workbench, asked: dict[str, Any]) -> None:
    recipe = {"factor_output": "balanced"}
    found = answer(bench, asked | {"preset": "quality", "keep": 0.5, "recipe": recipe})
    assert found.allocation == "open"
    assert {layer.rank for layer in found.layers} == {32}
    assert {layer.loss for layer in found.layers} == {None}


@pytest.mark.parametrize(("weight", "words"), [(1, "nats"), (2.5, "only where the weight of keys")])
def test_another_weight_of_keys_is_said_not_to_be_predicted(
    bench: Workbench, asked: dict[str, Any], weight: float, words: str
) -> None:
    """No profile would change that, so none is asked for."""
    found = answer(bench, asked | {"preset": "quality", "recipe": {"key_weight": weight}})
    assert (found.prediction is None) == (weight != 1)
    assert words in cost_card(found)


def test_given_ranks_are_shown_as_given_and_more_rank_loses_less(
    bench: Workbench, asked: dict[str, Any]
) -> None:
    losses = []
    for more in (0, 12):
        ranks = [20, 9 + more, 33, 14]
        found = answer(bench, asked | {"preset": "quality", "layer_ranks": ranks})
        assert found.allocation == "given"
        assert [layer.rank for layer in found.layers] == ranks
        assert found.prediction is not None
        losses.append(found.prediction.loss)
    assert losses[1] < losses[0]


def test_keeping_a_pair_that_matters_is_predicted_to_lose_less(
    bench: Workbench, asked: dict[str, Any]
) -> None:
    """The rule keeps the pairs with the largest scores; keeping the smallest instead loses more."""
    request = asked | {"preset": "fast", "keep": 0.5, "recipe": {"allocate": "uniform"}}
    view = pair_scores(bench, "", "", request)
    assert view is not None
    usual = answer(bench, request)
    named = answer(bench, request | {"rope_pairs": view.kept})
    worst = []
    for rows in view.scores:
        places = sorted((value, row, pair) for row, one in enumerate(rows) for pair, value in enumerate(one))
        chosen = [(row, pair) for _, row, pair in places[: usual.layers[0].rope_dim // 2]]
        worst.append([sorted(pair for at, pair in chosen if at == row) for row in range(HEADS)])
    other = answer(bench, request | {"rope_pairs": worst})
    assert usual.prediction is not None
    assert named.prediction is not None
    assert other.prediction is not None
    # the same pairs by rule and by name: curves between profiled dims are straight lines, scores are not
    assert math.isclose(usual.prediction.loss, named.prediction.loss, rel_tol=0.2)
    assert other.prediction.loss >= named.prediction.loss


@pytest.mark.parametrize("preset", PRESETS)
def test_redistribution_keeps_locks_and_budget(preset: str, bench: Workbench, asked: dict[str, Any]) -> None:
    request = asked | {"preset": preset, "keep": 0.5}
    usual = [layer.rank for layer in answer(bench, request).layers]
    assert redistribute(bench, request, {}) == tuple(usual)
    locked = {1: usual[1] + 5, 3: usual[3] - 3}
    # ranks that were dragged do not change the budget, which the slider says
    ranks = redistribute(bench, request | {"layer_ranks": [3] * LAYERS}, locked)
    assert sum(ranks) == sum(usual)
    assert {layer: ranks[layer] for layer in locked} == locked
    assert redistribute(bench, request, dict(enumerate(ranks))) == ranks


@pytest.mark.parametrize(
    ("locked", "names"),
    [
        ({7: 3}, "no layer 7"),
        ({2: 0}, "layer 2: rank 0"),
        ({2: 999}, "layer 2: rank 999"),
        ({0: 60, 1: 60, 2: 8}, "leave 0 numbers for 1 layers"),
    ],
)
def test_a_lock_that_cannot_hold_is_named(
    locked: dict[int, int], names: str, bench: Workbench, asked: dict[str, Any]
) -> None:
    with pytest.raises(SpecError, match=names) as caught:
        redistribute(bench, asked | {"preset": "quality", "keep": 0.5}, locked)
    assert caught.value.hint


@pytest.mark.parametrize("preset", PRESETS)
def test_bytes_asked_for_are_used_and_not_exceeded(
    preset: str, bench: Workbench, asked: dict[str, Any]
) -> None:
    """One number more in every layer would be too much."""
    request = asked | {"preset": preset}
    for kilobytes in (0.41, 0.512, 0.9):
        keep = keep_for(bench, request, SizeTarget(kilobytes=kilobytes))
        plan = answer(bench, request | {"keep": keep}).plan
        assert plan is not None
        used = plan.kv_bytes_per_token_after
        assert used <= kilobytes * 1000 < used + LAYERS * BYTES
    room = RoomTarget(tokens=1000, batch=4, gigabytes=4000 * 512e-9)
    assert keep_for(bench, request, room) == keep_for(bench, request, SizeTarget(kilobytes=0.512))
    assert keep_for(bench, request, SizeTarget(kilobytes=50)) == 1.0
    with pytest.raises(SpecError, match="leaves no room"):
        keep_for(bench, request, SizeTarget(kilobytes=0.001))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_loss_asked_for_is_met_by_the_smallest_cache(
    preset: str, bench: Workbench, asked: dict[str, Any]
) -> None:
    """log(1 + p/100) nats are what p percent more perplexity are when text is the original's own."""
    request = asked | {"preset": preset}
    middle = answer(bench, request | {"keep": 0.5}).prediction
    assert middle is not None
    percent = 100 * math.expm1(middle.loss)
    keep = keep_for(bench, request, LossTarget(percent=percent))
    found = answer(bench, request | {"keep": keep}).prediction
    smaller = estimate(bench, request | {"keep": keep - 1 / NUMBERS}, 1, 1).prediction
    assert found is not None
    assert found.loss <= nats_of(percent) * (1 + 1e-9)
    assert smaller is None or smaller.loss > nats_of(percent)


@pytest.mark.parametrize("preset", ["quality", "fast", "mha2mla"])
def test_pair_scores_are_there_for_presets_with_a_profile(
    preset: str, bench: Workbench, asked: dict[str, Any]
) -> None:
    view = pair_scores(bench, asked["model"], preset)
    assert view is not None
    assert [len(rows) for rows in view.scores] == [HEADS] * LAYERS
    assert {len(row) for rows in view.scores for row in rows} == {PAIRS} == {len(view.inv_freq)}
    assert view.meaning == {"quality": "exact", "fast": "components", "mha2mla": "contribution"}[preset]
    assert view.is_shared == (preset == "fast")
    kept = {sum(len(row) for row in rows) for rows in view.kept}
    assert kept == {"quality": {0}, "fast": {3}, "mha2mla": {2}}[preset]


def test_a_recipe_that_no_profile_knows_has_no_pair_scores(bench: Workbench, asked: dict[str, Any]) -> None:
    """TransMLA mixes heads another way, so its components are others."""
    assert pair_scores(bench, asked["model"], "transmla") is None


@pytest.mark.parametrize("preset", ["fast", "mha2mla"])
def test_the_pairs_shown_are_those_a_conversion_keeps(
    preset: str, bench: Workbench, asked: dict[str, Any]
) -> None:
    """Every layer is converted from the profile's own statistics, as the engine does."""
    request = asked | {"preset": preset, "keep": 0.4, "recipe": {"allocate": "uniform"}}
    view, found = pair_scores(bench, "", "", request), answer(bench, request)
    assert view is not None
    assert found.spec is not None
    assert found.plan is not None
    folder = Path(asked["model"])
    family, device = find_architecture("llama"), torch.device("cpu")
    assert family is not None
    skeleton, source = Skeleton(folder, family, device), TensorSource(folder)
    (statistics,) = bench.settings.home.glob("profiles/*/statistics")
    for layer, kept in zip(found.plan.layers, view.kept, strict=True):
        weights = attention_weights(source, family, read_facts(str(folder)), layer.index, device)
        measured = load_statistics(statistics, layer.index)
        latent = convert_layer(weights, measured, skeleton.inv_freq(layer.index), layer, found.spec.recipe)
        assert latent.kept == [list(row) for row in kept]


def test_rest_gives_what_the_services_give(
    client: TestClient, bench: Workbench, asked: dict[str, Any]
) -> None:
    request = asked | {"preset": "quality", "keep": 0.5}
    tuned = client.post("/api/v1/tune?context=1000&batch=2", json=request).json()
    expected = answer(bench, request).model_dump(mode="json")
    assert tuned["layers"] == expected["layers"]
    assert tuned["decode_flops_after"] == expected["decode_flops_after"] > 0
    body = {"spec": request, "locked": {"1": 30}}
    ranks = client.post("/api/v1/tune/redistribute", json=body).json()["layer_ranks"]
    assert tuple(ranks) == redistribute(bench, request, {1: 30})
    body = {"spec": request, "target": {"kind": "size", "kilobytes": 0.5}}
    keep = client.post("/api/v1/tune/target", json=body).json()["keep"]
    assert keep == keep_for(bench, request, SizeTarget(kilobytes=0.5))
    found = client.get("/api/v1/models/profile", params={"model": request["model"]}).json()
    assert len(found["contribution"]) == LAYERS
    refused = client.post("/api/v1/tune/redistribute", json={"spec": request, "locked": {"9": 3}})
    assert refused.status_code == 422
    assert refused.json()["field"] == "layer_ranks"


def test_a_model_without_a_profile_says_how_to_make_one(client: TestClient, tiny_copy: Path) -> None:
    answer = client.get("/api/v1/models/profile", params={"model": str(tiny_copy)})
    assert answer.status_code == 404
    assert "kind profile" in answer.json()["hint"]
