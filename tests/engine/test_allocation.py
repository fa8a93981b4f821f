# SPDX-License-Identifier: Apache-2.0
"""A budget spread over layers: every allocation keeps the budget, and held-back text picks one."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cancelling import CancelAfter
from folder_digest import digest

from core.errors import Cancelled, TextError
from core.spec import JobSpec


@pytest.mark.parametrize(
    ("preset", "allocate"),
    [("quality", "loss-aware"), ("fast", "loss-aware"), ("quality", "energy"), ("fast", "condition-number")],
)
def test_an_allocation_keeps_the_budget_and_names_what_it_measured(
    preset: str,
    allocate: str,
    tiny_spec: Callable[..., JobSpec],
    tiny_checkpoint: Path,
    convert_to: Callable[..., tuple],
) -> None:
    recipe = {"allocate": allocate}
    spec = tiny_spec(tiny_checkpoint, preset=preset, keep=0.5, recipe=recipe)
    folder, sink = convert_to(spec)
    rows = json.loads((folder / "conversion.json").read_text())["layers"]
    # 2 KV heads of 16 dims cache 64 numbers; half of them, on average over 4 layers
    assert sum(row["cached_numbers"] for row in rows) == 4 * 32
    assert sink.metrics["kv_bytes_per_token_measured"] == sink.metrics["kv_bytes_per_token_formula"]
    assert sink.metrics["kl_held_back"] >= 0
    said = [event.message for event in sink.of("log") if "loses least" in event.message]
    assert len(said) == 1
    assert "uniform" in said[0]


def test_the_winner_is_the_candidate_with_the_smallest_measured_loss(
    tiny_spec: Callable[..., JobSpec], tiny_checkpoint: Path, convert_to: Callable[..., tuple]
) -> None:
    _, sink = convert_to(tiny_spec(tiny_checkpoint, preset="quality", keep=0.3))
    said = next(event.message for event in sink.of("log") if "loses least" in event.message)
    losses = dict(part.rsplit(" ", 1) for part in said.rpartition(": ")[2].rstrip(")").split(", "))
    winner = said.split("'")[1]
    assert float(losses[winner]) == min(float(value) for value in losses.values())
    # shown with three decimals
    assert sink.metrics["kl_held_back"] == pytest.approx(float(losses[winner]), abs=5.1e-4)


def test_stopping_anywhere_in_the_choice_changes_no_byte(
    tiny_spec: Callable[..., JobSpec], tiny_checkpoint: Path, convert_to: Callable[..., tuple]
) -> None:
    spec = tiny_spec(tiny_checkpoint, preset="fast", keep=0.4)
    whole, _ = convert_to(spec, "whole")
    # one check for the stage, 9 steps of calibration for 4 layers, 8 of the choice; then the layers, refitted
    for checks in (11, 16, 22):
        name = f"stopped-{checks}"
        with pytest.raises(Cancelled):
            convert_to(spec, name, CancelAfter(checks + 1))
        resumed, _ = convert_to(spec, name)
        assert digest(resumed) == digest(whole)


def test_a_text_of_one_window_cannot_be_compared_on(
    tiny_spec: Callable[..., JobSpec], tiny_checkpoint: Path, tmp_path: Path, convert_to: Callable[..., tuple]
) -> None:
    short = tmp_path / "short.txt"
    short.write_text("a few words only, " * 5)
    calibration = {"text": str(short), "tokens": 64, "context": 64}
    with pytest.raises(TextError, match="held-back") as caught:
        convert_to(tiny_spec(tiny_checkpoint, preset="quality", calibration=calibration))
    assert "uniform" in caught.value.hint
