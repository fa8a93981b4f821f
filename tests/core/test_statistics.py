# SPDX-License-Identifier: Apache-2.0
"""Streamed statistics equal those of the whole model, and survive being interrupted."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from core.arch.llama import LLAMA
from core.calibrate.layer_statistics import load_statistics
from core.calibrate.statistics import collect
from core.facts import read_facts
from core.rope.select import SELECT
from core.weights.skeleton import Skeleton

# the streamed layers run in float32 in another batch split than the whole model: rounding of a few units in
# the last place, through four layers
SAME = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture
def windows() -> Tensor:
    return torch.randint(2, 256, (6, 40), generator=torch.Generator().manual_seed(5))


def start(model: Path, windows: Tensor, folder: Path, **options: int) -> Iterator[int]:
    skeleton = Skeleton(model, LLAMA, torch.device("cpu"))
    return collect(skeleton, read_facts(str(model)), LLAMA, windows, folder, **options)


@torch.no_grad()
def direct(model: Path, windows: Tensor, layer: int) -> tuple[Tensor, Tensor]:
    """(contribution, E[x x^T]) of one layer from a forward of the whole model and the paper's formula."""
    whole = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    config, block = whole.config, whole.model.layers[layer]
    hidden = whole(windows, output_hidden_states=True).hidden_states[layer]
    x = block.input_layernorm(hidden).flatten(0, 1)
    d_h, group = config.head_dim, config.num_attention_heads // config.num_key_value_heads

    def mean_norm(projection: torch.nn.Linear, head: int, pair: int) -> float:
        rows = [head * d_h + pair, head * d_h + pair + d_h // 2]  # HF's half-split layout
        states = (x @ projection.weight[rows].T).double()
        if projection.bias is not None:
            states += projection.bias[rows].double()
        return float(states.norm(dim=1).mean())

    contribution = torch.zeros(config.num_key_value_heads, d_h // 2, dtype=torch.float64)
    for kv in range(config.num_key_value_heads):
        for pair in range(d_h // 2):
            queries = [mean_norm(block.self_attn.q_proj, kv * group + i, pair) for i in range(group)]
            contribution[kv, pair] = sum(queries) * mean_norm(block.self_attn.k_proj, kv, pair)
    return contribution, (x.double().T @ x.double()) / len(x)


@pytest.mark.parametrize(
    "habit", [{}, {"num_key_value_heads": 4}, {"attention_bias": True}, {"head_dim": 32}]
)
def test_two_norm_equals_a_direct_computation(
    habit: dict[str, object], tiny_llama: Callable[..., Path], windows: Tensor, tmp_path: Path
) -> None:
    model = tiny_llama(**habit)
    for layer in start(model, windows, tmp_path):
        found = load_statistics(tmp_path, layer)
        contribution, covariance = direct(model, windows, layer)
        torch.testing.assert_close(found.contribution, contribution, **SAME)
        torch.testing.assert_close(found.input_covariance, covariance, **SAME)
        picked, wanted = (SELECT["2-norm"](scores, 2, 0) for scores in (found.contribution, contribution))
        assert picked.tolist() == wanted.tolist()


def test_the_batch_split_does_not_matter(tiny_checkpoint: Path, windows: Tensor, tmp_path: Path) -> None:
    """One window at a time, two, or all at once."""
    found = []
    for tokens in (1, 80, 100_000):
        folder = tmp_path / str(tokens)
        run = start(tiny_checkpoint, windows, folder, batch_tokens=tokens)
        found.append([load_statistics(folder, layer) for layer in run])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            torch.testing.assert_close(one.contribution, two.contribution, **SAME)
            torch.testing.assert_close(one.input_covariance, two.input_covariance, **SAME)


def test_hidden_states_of_two_layers_at_most_are_kept(
    tiny_checkpoint: Path, windows: Tensor, tmp_path: Path
) -> None:
    for _ in start(tiny_checkpoint, windows, tmp_path):
        hidden = list(tmp_path.glob("hidden-*"))
        assert len(hidden) <= 2
        assert all(file.stat().st_size == windows.numel() * 64 * 4 for file in hidden)
    assert list(tmp_path.glob("hidden-*")) == []


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("layer-*")}


@pytest.mark.parametrize("lost", [1, 2, 4])
def test_losing_the_newest_files_costs_time_only(
    lost: int, tiny_checkpoint: Path, windows: Tensor, tmp_path: Path
) -> None:
    """Whatever was written last may be gone after a power cut; the rest of the run makes it again."""
    assert list(start(tiny_checkpoint, windows, tmp_path)) == [0, 1, 2, 3]
    whole = bytes_of(tmp_path)
    for index in range(4 - lost, 4):
        (tmp_path / f"layer-{index:05d}.safetensors").unlink()
    assert list(start(tiny_checkpoint, windows, tmp_path))[-1] == 3
    assert bytes_of(tmp_path) == whole


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_stopping_between_layers_continues_with_the_next(
    layers: int, tiny_checkpoint: Path, windows: Tensor, tmp_path: Path
) -> None:
    list(start(tiny_checkpoint, windows, tmp_path / "whole"))
    run = start(tiny_checkpoint, windows, tmp_path / "cut")
    for _ in range(layers):
        next(run)
    run.close()
    early = {file: file.stat().st_mtime_ns for file in (tmp_path / "cut").glob("layer-*")}
    assert len(early) == layers
    assert list(start(tiny_checkpoint, windows, tmp_path / "cut")) == [0, 1, 2, 3]
    assert bytes_of(tmp_path / "cut") == bytes_of(tmp_path / "whole")
    assert {file: file.stat().st_mtime_ns for file in early} == early


def test_finished_statistics_need_no_model(tiny_checkpoint: Path, windows: Tensor, tmp_path: Path) -> None:
    """A second pass reads nothing but file names: no hidden state is written again."""
    list(start(tiny_checkpoint, windows, tmp_path))
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert list(start(tiny_checkpoint, windows, tmp_path)) == [0, 1, 2, 3]
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before
