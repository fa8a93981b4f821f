# SPDX-License-Identifier: Apache-2.0
"""Perplexity by position: every predicted token is in one bucket, and each bucket is its definition."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.calibrate.tokens import tokenize
from core.errors import ModelError
from core.evaluate import PositionTally, evaluate, load_model, perplexity
from core.evaluate.by_position import bucket_edges
from core.evaluate.perplexity import ROWS
from core.evaluate.scores import TokenScores

# two buckets, the second of them cut short by the context, and no multiple of the block of positions
CONTEXT, WINDOWS = 700, 2


@pytest.fixture(scope="module")
def text(sample_text: Path) -> str:
    return sample_text.read_text(encoding="utf-8")[:4_000]


@pytest.fixture(scope="module")
def found(converted: Callable[[str], Path], tiny_checkpoint: Path, text: str) -> dict[str, Any]:
    return evaluate(
        converted("float32"),
        text,
        base_folder=tiny_checkpoint,
        context=CONTEXT,
        windows=WINDOWS,
        by_position=True,
    )


@pytest.mark.parametrize(
    ("context", "edges"),
    [
        (8192, (0, 512, 1024, 2048, 4096, 8192)),
        (700, (0, 512, 700)),
        (512, (0, 512)),
        (32, (0, 32)),
        (10_000, (0, 512, 1024, 2048, 4096, 8192, 10_000)),
    ],
)
def test_edges_double_up_to_the_context(context: int, edges: tuple[int, ...]) -> None:
    assert bucket_edges(context) == edges


def test_every_predicted_token_is_counted_once(found: dict[str, Any]) -> None:
    """Token 0 of a window is given, not predicted."""
    assert [(row["from"], row["to"], row["tokens"]) for row in found["by_position"]] == [
        (0, 512, WINDOWS * 511),
        (512, 700, WINDOWS * 188),
    ]
    assert sum(row["tokens"] for row in found["by_position"]) == found["tokens"]


@pytest.mark.parametrize("name", ["perplexity", "perplexity_base"])
def test_the_buckets_together_are_the_whole(found: dict[str, Any], name: str) -> None:
    """The token-weighted mean of the buckets' losses is the loss of the text, to float64 rounding."""
    losses = sum(row["tokens"] * math.log(row[name]) for row in found["by_position"])
    assert losses / found["tokens"] == pytest.approx(math.log(found[name]), rel=1e-12)


@torch.no_grad()
def test_a_bucket_is_the_mean_loss_of_its_positions(
    found: dict[str, Any], tiny_checkpoint: Path, text: str
) -> None:
    """Against whole logits of the original, computed here."""
    model = load_model(tiny_checkpoint, dtype=torch.float32, device="cpu")
    windows = tokenize(tiny_checkpoint, text)[: CONTEXT * WINDOWS].view(WINDOWS, CONTEXT)
    assert CONTEXT % ROWS, "the last block must be a short one"
    log_p = model(windows).logits[:, :-1].double().log_softmax(-1)
    losses = -log_p.gather(2, windows[:, 1:, None])[..., 0]
    for row in found["by_position"]:
        expected = losses[:, max(row["from"], 1) - 1 : row["to"] - 1].mean()
        # logits in float32 of windows in one batch sum in another order
        assert math.log(row["perplexity_base"]) == pytest.approx(float(expected), abs=1e-5)


def test_damage_that_starts_late_is_seen_late() -> None:
    """A loss raised by one nat from position 512 on: ratio 1 before, e after."""
    loss = torch.linspace(1, 3, 1023, dtype=torch.float64)
    damaged = loss + (torch.arange(1, 1024) >= 512)
    tally = PositionTally(1024)
    for _ in range(2):
        tally.add(TokenScores(loss, damaged, torch.zeros_like(loss), loss > 0))
    early, late = tally.buckets()
    assert [early.ratio, late.ratio] == pytest.approx([1, math.e], rel=1e-12)
    # both windows lost the same, so nothing varies
    assert late.interval is not None
    assert [late.interval.low, late.interval.high] == pytest.approx([math.e, math.e], rel=1e-12)


def test_a_plain_model_is_refused(tiny_checkpoint: Path, text: str) -> None:
    with pytest.raises(ModelError, match="no converted model") as caught:
        evaluate(tiny_checkpoint, text, base_folder=None, context=32, windows=1, by_position=True)
    assert caught.value.hint


def test_the_head_is_never_applied_to_a_whole_window(tiny_checkpoint: Path, text: str) -> None:
    """Logits of 8,192 positions would be gigabytes: a block of positions is all that may exist."""
    model = load_model(tiny_checkpoint, dtype=torch.float32, device="cpu")
    seen: list[int] = []
    model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-2]))
    perplexity(model, tokenize(tiny_checkpoint, text), CONTEXT, WINDOWS)
    assert max(seen) <= ROWS
    assert sum(seen) >= WINDOWS * (CONTEXT - 1)


def test_the_command_line_gives_the_buckets(
    converted: Callable[[str], Path], tiny_checkpoint: Path, tmp_path: Path, text: str
) -> None:
    """As JSON for programs, and one line each for people."""
    file = tmp_path / "text.txt"
    file.write_text(text, encoding="utf-8")
    program = Path(sys.executable).with_name("mla-workbench")
    command = [program, "evaluate", converted("float32"), "--base", tiny_checkpoint, "--text", file]
    command += ["--context", "700", "--windows", "1", "--by-position"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MLA_DATA_DIR": str(tmp_path)}
    answers = [
        subprocess.run([*command, *more], env=environment, capture_output=True, text=True, check=True).stdout
        for more in (["--json"], [])
    ]
    rows = json.loads(answers[0])["by_position"]
    names = ["from", "to", "tokens", "perplexity", "perplexity_base", "ratio", "ratio_low", "ratio_high"]
    assert [list(row) for row in rows] == [[*names, "kl_to_base", "top1_agreement"]] * 2
    assert all(row["ratio"] == row["perplexity"] / row["perplexity_base"] for row in rows)
    lines = [line for line in answers[1].splitlines() if line.startswith("position")]
    assert [line.split()[1:4] for line in lines] == [["0", "to", "512"], ["512", "to", "700"]]
