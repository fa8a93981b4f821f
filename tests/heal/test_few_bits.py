# SPDX-License-Identifier: Apache-2.0
"""A model whose cache has few bits learns as any other, and its scales are those of what it then caches."""

from pathlib import Path
from typing import Any

import pytest
import torch
from heal_runs import heal_spec, heal_to
from safetensors.torch import load_file
from transformers import DynamicCache

from core.calibrate.tokens import tokenize
from core.evaluate import load_model
from core.heal.rescale import rescaled
from core.modeling import LatentAttention
from tests.heal.conftest import converted_from

# both layouts: a rate, and the share of the divergence that may be left; of the second one nothing is lost
PRESETS = {"mha2mla": (2e-2, 0.9), "quality": (2e-3, 1.0)}


@pytest.fixture(scope="module", params=PRESETS)
def few_bits(
    request: pytest.FixtureRequest, base: Path, words: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    return converted_from(base, folder, words, request.param, keep=0.25, recipe={"latent_bits": 4})


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """With a cache that keeps what is given to it."""
    with torch.no_grad():
        found: torch.Tensor = model(ids, past_key_values=DynamicCache()).logits
    return found


def cached(model: Any, ids: torch.Tensor) -> list[torch.Tensor]:
    """The rows (tokens, r) of every layer's latents."""
    cache = DynamicCache()
    with torch.no_grad():
        model(ids, past_key_values=cache)
    return [layer.keys.flatten(0, 2) for layer in cache.layers]


def scales(model: Any) -> list[torch.Tensor]:
    found = [one for one in model.modules() if isinstance(one, LatentAttention)]
    return [one.kv_scale[: one.shape.kv_lora_rank] for one in found]


def test_a_new_basis_changes_nothing_and_its_scales_are_the_latents_own(few_bits: Path) -> None:
    """Float32 rounds the new maps once: 1e-4 of logits of size one. Scales are moments of the same rows."""
    model = load_model(few_bits, dtype=torch.float32, device="cpu")
    # as if something had been learned: latents twelve times as large, and of another shape
    with torch.no_grad():
        for one in model.modules():
            if isinstance(one, LatentAttention):
                size = torch.linspace(2, 12, one.shape.kv_lora_rank)
                one.kv_a_proj_with_mqa.weight[: len(size)] *= size[:, None]
                one.k_b_proj.weight /= size[: one.shape.k_rank]
                one.v_b_proj.weight /= size[-one.shape.v_rank :]
    ids = torch.randint(0, 256, (6, 64), generator=torch.Generator().manual_seed(1))
    before = logits(model, ids)
    made = rescaled(model, ids.split(2))
    model.load_state_dict(made, strict=False)
    assert (logits(model, ids) - before).abs().max() < 1e-4 * before.abs().max()
    for rows, scale in zip(cached(model, ids), scales(model), strict=True):
        torch.testing.assert_close(rows.std(dim=0, correction=0), scale, rtol=1e-3, atol=0)
        # mixed channels are alike: of size one, but for what is next to nothing
        assert scale.max() < 1.5 * scale.min()


def test_a_model_without_few_bits_has_nothing_to_scale(converted: Path) -> None:
    model = load_model(converted, dtype=torch.float32, device="cpu")
    assert rescaled(model, [torch.zeros(1, 8, dtype=torch.int64)]) == {}


def test_healing_takes_back_what_was_lost_and_makes_new_scales(
    few_bits: Path, base: Path, words: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The job itself verifies that the folder, read through its cache of integers, gives what it should."""
    rate, left = PRESETS[request.node.callspec.params["few_bits"]]
    result, said = heal_to(heal_spec(few_bits, base, words, learning_rate=rate), tmp_path)
    kl = said.curve["held_out"]["kl"]
    assert min(kl) <= left * kl[0]
    assert said.metrics["kv_bytes_per_token_measured"] == said.metrics["kv_bytes_per_token_formula"]
    old, new = (load_file(folder / "model.safetensors") for folder in (few_bits, result))
    moved = [name for name in old if name.endswith("kv_scale") and not torch.equal(old[name], new[name])]
    assert len(moved) == 2
    # what the exported model caches is as large as it says, on the text it learned from
    model = load_model(result, dtype=torch.float32, device="cpu")
    ids = tokenize(base, words.read_text())[: 64 * 64].view(-1, 64)
    for rows, scale in zip(cached(model, ids), scales(model), strict=True):
        torch.testing.assert_close(rows.std(dim=0), scale, rtol=0.1, atol=0)
