# SPDX-License-Identifier: Apache-2.0
"""A healing from start to end: it helps, it is exported exactly, equal requests give equal folders."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from heal_runs import CancelAfter, Heard, digests, heal_and_die, heal_spec, heal_to
from safetensors.torch import load_file

from core.errors import Cancelled, SpecError
from core.modeling import export_source
from core.spec import JobSpec


@pytest.fixture(scope="module")
def spec(converted: Path, base: Path, words: Path) -> JobSpec:
    return heal_spec(converted, base, words)


@pytest.fixture(scope="module")
def healed(spec: JobSpec, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Heard]:
    """One healing that nobody disturbed."""
    return heal_to(spec, tmp_path_factory.mktemp("undisturbed"))


def test_the_held_out_divergence_falls_and_the_curve_says_so(healed: tuple[Path, Heard]) -> None:
    _, said = healed
    curve = said.curve
    assert curve["train"]["tokens"] == [256 * step for step in range(1, 9)]
    assert curve["held_out"]["tokens"] == [0, 512, 1024, 1536, 2048]
    kl = curve["held_out"]["kl"]
    assert min(kl) < 0.8 * kl[0]
    assert said.metrics["healing_kl"] == min(kl)
    assert [event.stage for event in said.of("stage")] == ["preparing", "teaching", "healing", "verifying"]


def test_only_weights_of_the_attention_differ_and_other_files_are_the_same_bytes(
    healed: tuple[Path, Heard], converted: Path
) -> None:
    result, _ = healed
    before, after = (load_file(folder / "model.safetensors") for folder in (converted, result))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "self_attn" in name and "inv_freq" not in name}
    assert {name: one.dtype for name, one in before.items()} == {
        name: one.dtype for name, one in after.items()
    }
    said = {"model.safetensors", "conversion.json", "README.md"}
    old, new = digests(converted), digests(result)
    assert {name for name in new if old[name] != new[name]} == said
    assert old.keys() == new.keys()


def test_the_record_keeps_what_was_done_without_the_clock(
    healed: tuple[Path, Heard], converted: Path
) -> None:
    result, said = healed
    record, before = (json.loads((one / "conversion.json").read_text()) for one in (result, converted))
    assert record["spec"] == before["spec"]
    assert record["healing"]["metrics_before"] == before["metrics"]
    assert record["healing"]["curve"]["held_out"] == said.curve["held_out"]
    assert "tokens_per_second" not in json.dumps(record["healing"])
    assert record["healing"]["spec"]["source"] == converted.name  # paths are nobody's business
    card = (result / "README.md").read_text()
    assert "## Healing" in card
    assert "No fine-tuning was done" not in card


def test_killed_at_any_point_it_resumes_to_the_same_bytes(
    healed: tuple[Path, Heard], spec: JobSpec, tmp_path: Path
) -> None:
    """SIGKILL while the teacher is asked, in the first step, between and at evaluations, while it exports.

    The state is stored after every step, so that each attempt begins where the last one died.
    """
    assert spec.heal is not None
    often = spec.model_copy(update={"heal": spec.heal.model_copy(update={"checkpoint_seconds": 1e-9})})
    points = [("progress", 1), ("progress", 2), ("figure", 1), ("progress", 3), ("stage", 4)]
    for point in points:
        assert heal_and_die(often, tmp_path, "killed", point) == -9
    result, said = heal_to(often, tmp_path, "killed")
    undisturbed, all_said = healed
    mine, others = digests(result), digests(undisturbed)
    assert mine["model.safetensors"] == others["model.safetensors"]
    for column in ("tokens", "loss", "learning_rate"):
        assert said.curve["train"][column] == all_said.curve["train"][column]
    assert said.curve["held_out"] == all_said.curve["held_out"]
    finished = {event.stage: event.finished for event in said.of("stage")}
    assert finished["healing"] == 8  # the last one was killed while it exported: nothing is trained again


def test_a_second_healing_does_not_ask_the_teacher_again(
    healed: tuple[Path, Heard], spec: JobSpec, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It reads the cache of the first, and equal requests give equal folders."""
    result, _ = healed
    again, said = heal_to(spec, result.parent, "again")
    totals = {event.stage: event.total for event in said.of("stage")}
    assert totals["teaching"] == 0
    assert any("not asking again" in event.message for event in said.of("log"))
    assert digests(again) == digests(result)


def test_a_cancelled_healing_keeps_its_last_step(
    healed: tuple[Path, Heard], spec: JobSpec, tmp_path: Path
) -> None:
    """No checkpoint was due by the clock: cancelling itself stores one."""
    heard = Heard()
    checks = CancelAfter(20)
    with pytest.raises(Cancelled):
        heal_to(spec, tmp_path, "cancelled", heard, checks)
    taken = [event.done for event in heard.of("progress") if event.stage == "healing"]
    result, said = heal_to(spec, tmp_path, "cancelled")
    finished = {event.stage: event.finished for event in said.of("stage")}
    assert finished["healing"] == taken[-1] > 0
    assert digests(result)["model.safetensors"] == digests(healed[0])["model.safetensors"]


@pytest.mark.parametrize(
    "asked",
    [
        {"trainable": "lora", "lora_rank": 4, "learning_rate": 5e-3},
        {"trainable": "all"},
        {"top_k": 0, "cross_entropy": 0.3, "temperature": 2.0},
        {"hidden_loss": 1.0, "attention_loss": 1.0},
        {"checkpoint_activations": True, "accumulate": 2, "windows": 2},
        {"precision": "bfloat16", "schedule": "1-sqrt"},
    ],
    ids=lambda asked: "+".join(asked),
)
def test_every_way_to_heal_lowers_the_divergence_and_is_exported(
    converted: Path, base: Path, words: Path, tmp_path: Path, asked: dict[str, Any]
) -> None:
    """The export is verified by the job itself against the weights in memory."""
    # adapters and mixed losses go less far in as many steps
    result, said = heal_to(heal_spec(converted, base, words, **asked), tmp_path)
    kl = said.curve["held_out"]["kl"]
    assert min(kl) < 0.97 * kl[0]
    assert (result / "model.safetensors").is_file()


def test_it_stops_when_the_held_back_windows_get_no_better(
    converted: Path, base: Path, words: Path, tmp_path: Path
) -> None:
    """At a rate that float32 rounds away no evaluation beats the first: the weights stay as they were."""
    spec = heal_spec(converted, base, words, learning_rate=1e-12, patience=2, evaluations=8)
    result, said = heal_to(spec, tmp_path)
    assert len(said.curve["held_out"]["kl"]) == 1 + 2
    assert any("stopped early" in event.message for event in said.of("log"))
    assert digests(result)["model.safetensors"] == digests(converted)["model.safetensors"]


def test_it_stops_at_the_target_and_refuses_one_that_is_met(
    converted: Path, base: Path, words: Path, tmp_path: Path
) -> None:
    """A target between the first evaluation and what all steps reach."""
    _, whole = heal_to(heal_spec(converted, base, words, evaluations=8), tmp_path / "whole")
    reached = whole.curve["held_out"]["kl"]
    target = (reached[0] + min(reached)) / 2
    spec = heal_spec(converted, base, words, evaluations=8, target_kl=target)
    _, said = heal_to(spec, tmp_path / "half")
    kl = said.curve["held_out"]["kl"]
    assert kl == reached[: len(kl)]
    assert len(kl) < len(reached)
    assert kl[-1] <= target < min(kl[:-1])
    assert any("the target is met" in event.message for event in said.of("log"))
    with pytest.raises(SpecError, match="before the first step"):
        heal_to(heal_spec(converted, base, words, target_kl=2 * reached[0]), tmp_path / "none")


def test_a_conversion_of_an_older_workbench_gets_todays_model_file(
    converted: Path, base: Path, words: Path, tmp_path: Path
) -> None:
    """Its own file may round differently than the one that says what the healed folder must give."""
    older = shutil.copytree(converted, tmp_path / "older")
    (older / "modeling_mla.py").write_text("raise ImportError('of long ago')\n")
    result, _ = heal_to(heal_spec(older, base, words), tmp_path / "healed")
    assert (result / "modeling_mla.py").read_bytes() == export_source().read_bytes()
