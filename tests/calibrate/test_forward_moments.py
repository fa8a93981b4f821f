# SPDX-License-Identifier: Apache-2.0
"""Means and attention mass of the streamed pass are those of the whole model."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from core.calibrate.layer_statistics import load_statistics
from core.rope.attention_mass import AttentionMass, by_distance
from core.rope.score_rule import ScoreRule

# the streamed layers run in float32 in another batch split than the whole model: rounding of a few units in
# the last place, through four layers
SAME = {"rtol": 1e-4, "atol": 1e-5}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0, "original_max_position_embeddings": 128}


@torch.no_grad()
def slow_mass(maps: Tensor) -> Tensor:
    """Attention maps (windows, n_h, T, T) -> (n_h, T): the definition, one query and key at a time."""
    windows, heads, context, _ = maps.shape
    mass = torch.zeros(heads, context, dtype=torch.float64)
    for t in range(context):
        for s in range(t + 1):
            mass[:, t - s] += maps[:, :, t, s].double().sum(dim=0)
    return mass / (windows * context)


@pytest.mark.parametrize(
    "habit", [{}, {"num_key_value_heads": 4}, {"attention_bias": True}, {"rope_parameters": YARN}]
)
def test_means_and_attention_equal_those_of_the_whole_model(
    habit: dict[str, object],
    tiny_llama: Callable[..., Path],
    windows: Tensor,
    steps_of: Callable[..., Iterator[str]],
    tmp_path: Path,
) -> None:
    """Attention maps come from the eager attention of transformers, scalings of the rotation included."""
    model = tiny_llama(**habit)
    list(steps_of(model, windows, tmp_path, fisher_windows=0))
    whole = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        ran = whole(windows, output_hidden_states=True, output_attentions=True)
    for index, block in enumerate(whole.model.layers):
        x = block.input_layernorm(ran.hidden_states[index]).flatten(0, 1).detach().double()
        found = load_statistics(tmp_path, index)
        assert found.tokens == windows.numel()
        torch.testing.assert_close(found.input_mean, x.mean(dim=0), **SAME)
        torch.testing.assert_close(found.input_l1, x.abs().mean(dim=0), **SAME)
        torch.testing.assert_close(found.attention_mass, slow_mass(ran.attentions[index]), **SAME)
        assert found.fisher is None
        assert found.fisher_input is None


def test_every_head_spends_its_whole_mass(
    tiny_checkpoint: Path, windows: Tensor, steps_of: Callable[..., Iterator[str]], tmp_path: Path
) -> None:
    list(steps_of(tiny_checkpoint, windows, tmp_path, fisher_windows=0))
    mass = load_statistics(tmp_path, 2).attention_mass
    torch.testing.assert_close(mass.sum(dim=1), torch.ones(4, dtype=torch.float64), rtol=1e-6, atol=0)


def test_the_query_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long context is done a few rows at a time."""
    draw = torch.Generator().manual_seed(3)
    query, key = torch.randn(33, 4 * 8, generator=draw), torch.randn(33, 2 * 8, generator=draw)
    cos, sin = torch.ones(33, 8), torch.zeros(33, 8)
    found = []
    for logits in (1, 4 * 33 * 5, 1 << 20):
        monkeypatch.setattr("core.rope.attention_mass._LOGITS", logits)
        mass = AttentionMass(heads=4, kv_heads=2, context=33, rule=ScoreRule(0.3))
        mass.add(query, key, cos, sin)
        found.append(mass.mean())
    torch.testing.assert_close(found[0], found[2], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found[1], found[2], rtol=1e-6, atol=1e-9)


def test_a_window_and_a_cap_are_those_of_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing beyond the window, and e^{c tanh(s / c)} for weights; in blocks of a few rows, too."""
    draw = torch.Generator().manual_seed(4)
    query, key = (torch.randn(20, 8, generator=draw, dtype=torch.float64) * 3 for _ in range(2))
    cos, sin = torch.ones(20, 8), torch.zeros(20, 8)
    expected = torch.zeros(20, dtype=torch.float64)
    for t in range(20):
        seen = range(max(0, t - 5), t + 1)
        weights = torch.stack([(2 * torch.tanh(0.5 * query[t] @ key[s] / 2)).exp() for s in seen])
        for s, weight in zip(seen, weights / weights.sum(), strict=True):
            expected[t - s] += weight / 20
    for logits in (1, 60, 1 << 20):
        monkeypatch.setattr("core.rope.attention_mass._LOGITS", logits)
        mass = AttentionMass(1, 1, 20, ScoreRule(0.5, window=6, softcap=2.0))
        mass.add(query, key, cos, sin)
        # float64 sums in another order
        torch.testing.assert_close(mass.mean()[0], expected, rtol=0, atol=1e-12)
    assert expected[5] > 0.01


def test_distances_are_counted_from_the_query() -> None:
    """Three queries at the last three of five keys; every entry is a number of its own."""
    entries = torch.arange(1.0, 16.0).view(1, 3, 5)
    entries[0, 0, 3:] = entries[0, 1, 4:] = 0  # the future
    # distance 0 is the diagonal that ends in the last corner
    assert by_distance(entries).tolist() == [[3 + 9 + 15, 2 + 8 + 14, 1 + 7 + 13, 6 + 12, 11]]


def test_only_a_few_windows_pay_for_an_attention_map(
    tiny_checkpoint: Path, steps_of: Callable[..., Iterator[str]], tmp_path: Path
) -> None:
    """Of 20 windows 8 are looked at, the same ones for equal seeds, others for another seed."""
    many = torch.randint(2, 256, (20, 16), generator=torch.Generator().manual_seed(5))
    masses = []
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        list(steps_of(tiny_checkpoint, many, tmp_path / name, fisher_windows=0, seed=seed))
        masses.append(load_statistics(tmp_path / name, 1).attention_mass)
    assert masses[0].equal(masses[1])
    assert not masses[0].equal(masses[2])
