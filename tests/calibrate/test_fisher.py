# SPDX-License-Identifier: Apache-2.0
"""The streamed backward pass equals autograd through the whole model and predicts the KL it stands for."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from core.calibrate.fisher import sample
from core.calibrate.layer_statistics import load_statistics

# float32 in another batch split, four layers forward and back; relative to the largest entry of a matrix
SAME = 2e-4
Steps = Callable[..., Iterator[str]]


class Taps:
    """Inputs and outputs of one attention's projections while the whole model runs."""

    def __init__(self, attention: Any) -> None:
        self.outputs: dict[str, Tensor] = {}
        self.x = torch.empty(0)
        for name in ("k_proj", "v_proj"):
            getattr(attention, name).register_forward_hook(self._keeper(name))

    def _keeper(self, name: str) -> Callable[..., None]:
        def keep(module: Any, inputs: tuple[Tensor], output: Tensor) -> None:
            output.retain_grad()
            self.outputs[name], self.x = output, inputs[0].detach()

        return keep

    def gradient(self, name: str) -> Tensor:
        found = self.outputs[name].grad
        assert found is not None
        return found.flatten(0, 1).double()


def direct(model: Path, windows: Tensor, seed: int) -> list[dict[str, Tensor]]:
    """The Fisher fields by their definition, from one backward pass through the whole model."""
    whole = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    taps = [Taps(block.self_attn) for block in whole.model.layers]
    logits = whole(windows).logits.flatten(0, 1)
    labels = sample(logits.detach().softmax(dim=-1), torch.Generator().manual_seed(seed))
    torch.nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
    found = []
    for tap in taps:
        x, tokens = tap.x.flatten(0, 1).double(), windows.numel()
        key, value = tap.gradient("k_proj"), tap.gradient("v_proj")
        both = torch.cat([key, value], dim=1)
        weights = [gradient.square().sum(dim=1) / gradient.square().sum() for gradient in (key, value)]
        found.append(
            {
                "fisher": both.T @ both / tokens,
                "fisher_input": torch.stack([torch.einsum("t,ti,tj->ij", one, x, x) for one in weights]),
                "fisher_mean": torch.stack([one @ x for one in weights]),
            }
        )
    return found


@pytest.mark.parametrize(
    "habit",
    [{}, {"num_key_value_heads": 4}, {"attention_bias": True}, {"tie_word_embeddings": False}],
    ids=["grouped", "multi-head", "biased", "untied"],
)
def test_streamed_moments_equal_autograd_through_the_whole_model(
    habit: dict[str, object],
    tiny_llama: Callable[..., Path],
    windows: Tensor,
    steps_of: Steps,
    tmp_path: Path,
) -> None:
    model = tiny_llama(**habit)
    list(steps_of(model, windows, tmp_path, fisher_windows=4, seed=7))
    for index, wanted in enumerate(direct(model, windows[:4], seed=7)):
        found = load_statistics(tmp_path, index)
        assert found.fisher_tokens == 4 * 40
        for name, expected in wanted.items():
            got = getattr(found, name)
            assert got.dtype == torch.float64
            assert (got - expected).abs().max() < SAME * expected.abs().max(), (index, name)


@torch.no_grad()
def kl_of_noise(model: Path, windows: Tensor, layer: int, name: str, size: float) -> float:
    """KL(original || with noise added to one projection's outputs), summed over the positions of a window."""
    whole = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64)
    original = whole(windows).logits.log_softmax(dim=-1)
    draw = torch.Generator().manual_seed(11)

    def add(module: Any, inputs: Any, output: Tensor) -> Tensor:
        return output + size * torch.randn(output.shape, generator=draw, dtype=output.dtype)

    getattr(whole.model.layers[layer].self_attn, name).register_forward_hook(add)
    changed = whole(windows).logits.log_softmax(dim=-1)
    return float((original.exp() * (original - changed)).sum() / len(windows))


@pytest.mark.parametrize("layer", [0, 3])
@pytest.mark.parametrize("name", ["k_proj", "v_proj"])
def test_the_fisher_trace_predicts_the_kl_of_small_noise(
    layer: int, name: str, tiny_checkpoint: Path, steps_of: Steps, tmp_path: Path
) -> None:
    """KL = 1/2 sum_t tr(F_t cov) for noise that is independent per token.

    One label per position and one draw of noise leave some per cent of sampling error on 1,280 tokens; the
    empirical Fisher of the text's own words, or a missing factor 1/2, would be off by far more.
    """
    windows = torch.randint(2, 256, (32, 40), generator=torch.Generator().manual_seed(6))
    list(steps_of(tiny_checkpoint, windows, tmp_path, fisher_windows=32))
    fisher = load_statistics(tmp_path, layer).fisher
    assert fisher is not None
    keys, values = fisher.diagonal().chunk(2)
    size = 1e-3
    predicted = 0.5 * size**2 * float((keys if name == "k_proj" else values).sum()) * windows.shape[1]
    assert kl_of_noise(tiny_checkpoint, windows, layer, name, size) == pytest.approx(predicted, rel=0.15)


def test_the_fisher_matrix_is_one(
    tiny_checkpoint: Path, windows: Tensor, steps_of: Steps, tmp_path: Path
) -> None:
    """Symmetric, no negative eigenvalue beyond rounding, and the inputs' weights make it a mean."""
    list(steps_of(tiny_checkpoint, windows, tmp_path))
    found = load_statistics(tmp_path, 1)
    assert found.fisher is not None
    assert found.fisher_input is not None
    eigenvalues = torch.linalg.eigvalsh(found.fisher)
    assert eigenvalues[0] > -1e-6 * eigenvalues[-1]
    torch.testing.assert_close(found.fisher, found.fisher.T, rtol=1e-5, atol=1e-6 * float(eigenvalues[-1]))
    x_squared = found.fisher_input.diagonal(dim1=1, dim2=2).sum(dim=1)
    # RMSNorm with unit weights gives every token the length sqrt(64), whatever its weight in the mean
    torch.testing.assert_close(x_squared, torch.full((2,), 64.0, dtype=torch.float64), rtol=1e-3, atol=0)


def test_labels_follow_the_model_and_the_seed(
    tiny_checkpoint: Path, windows: Tensor, steps_of: Steps, tmp_path: Path
) -> None:
    fishers = []
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        list(steps_of(tiny_checkpoint, windows, tmp_path / name, seed=seed))
        fishers.append(load_statistics(tmp_path / name, 2).fisher)
    assert fishers[0] is not None
    assert fishers[0].equal(fishers[1])
    assert not fishers[0].equal(fishers[2])


def test_sampled_labels_have_the_probabilities_asked_for() -> None:
    """100,000 draws: a frequency is off by at most five standard deviations, 0.8 %."""
    wanted = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0])
    labels = sample(wanted.expand(100_000, -1), torch.Generator().manual_seed(0))
    frequencies = labels.bincount(minlength=6) / len(labels)
    assert (frequencies - wanted).abs().max() < 0.008
    assert frequencies[[0, 2, 5]].tolist() == [0, 0, 0]


def test_rows_of_logits_do_not_change_the_labels(
    tiny_checkpoint: Path, windows: Tensor, steps_of: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many rows fit into memory is no part of the result."""
    traces = []
    for rows in (7, 40, 10_000):
        monkeypatch.setattr("core.calibrate.fisher.HEAD_ROWS", rows)
        list(steps_of(tiny_checkpoint, windows, tmp_path / str(rows)))
        fisher = load_statistics(tmp_path / str(rows), 0).fisher
        assert fisher is not None
        traces.append(fisher.trace())
    torch.testing.assert_close(traces[0], traces[2], rtol=1e-4, atol=0)
    torch.testing.assert_close(traces[1], traces[2], rtol=1e-4, atol=0)
