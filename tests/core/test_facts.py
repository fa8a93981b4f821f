# SPDX-License-Identifier: Apache-2.0
"""Facts come from config.json and headers alone, in no time, and equal what one computes by hand."""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from core.facts import ModelFacts, read_facts

Published = Mapping[str, Mapping[str, Any]]


@pytest.mark.parametrize(
    ("name", "kind", "kv_bytes", "parameters"),
    [
        # layers x 2 (K and V) x KV heads x head_dim x 2 bytes
        ("Llama-2-7B", "MHA", 32 * 2 * 32 * 128 * 2, 6_738_415_616),
        ("Llama-3-8B", "GQA", 32 * 2 * 8 * 128 * 2, 8_030_261_248),
        ("SmolLM-135M", "GQA", 30 * 2 * 3 * 64 * 2, 134_515_008),
    ],
)
def test_published_models_cost_what_one_computes_by_hand(
    name: str,
    kind: str,
    kv_bytes: int,
    parameters: int,
    published: Published,
    facts: Callable[..., ModelFacts],
) -> None:
    assert (kv_bytes, name) in {(524_288, "Llama-2-7B"), (131_072, "Llama-3-8B"), (23_040, "SmolLM-135M")}
    found = facts(published[name])
    assert found.problems == ()
    assert found.attention_kind == kind
    assert found.kv_bytes_per_token == kv_bytes
    assert found.parameters == parameters
    assert found.weight_bytes == 2 * parameters


def test_no_weight_is_read(published: Published, hollow: Callable[..., Path]) -> None:
    """16 GB of weights that are a hole in the file: reading them would take seconds and blocks of disk."""
    folder = hollow(published["Llama-3-8B"])
    file = folder / "model.safetensors"
    assert file.stat().st_size > 16e9
    assert file.stat().st_blocks * 512 < 1e6
    before = time.process_time()
    assert read_facts(str(folder)).layers == 32
    assert time.process_time() - before < 1


def test_facts_agree_with_the_loaded_model(tiny_checkpoint: Path) -> None:
    found = read_facts(str(tiny_checkpoint))
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint)
    assert found.parameters == model.num_parameters()
    assert found.vocab_size == model.get_input_embeddings().num_embeddings
    assert (found.layers, found.heads, found.kv_heads, found.head_dim) == (4, 4, 2, 16)
    assert (found.dtype, found.is_tied, found.has_attention_bias) == ("float32", True, False)
    assert found.kv_bytes_per_token == 4 * 2 * 2 * 16 * 4


def test_a_sharded_checkpoint_has_the_same_facts(
    published: Published,
    hollow: Callable[..., Path],
    shapes_of: Callable[..., dict[str, tuple[int, ...]]],
    header_to: Callable[..., None],
) -> None:
    folder = hollow(published["small"])
    whole = read_facts(str(folder))
    (folder / "model.safetensors").unlink()
    names = list(shapes_of(published["small"]).items())
    weight_map = {}
    for number, part in enumerate((names[:7], names[7:]), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        header_to(folder / file, dict(part), "BF16")
        weight_map |= {name: file for name, _ in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert read_facts(str(folder)) == whole


def test_biases_are_seen(tiny_llama: Callable[..., Path]) -> None:
    found = read_facts(str(tiny_llama(attention_bias=True)))
    assert found.has_attention_bias
    assert found.problems == ()


LLAMA3_SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@pytest.mark.parametrize(
    ("settings", "rope_type", "theta"),
    [
        ({}, "default", 10_000.0),
        ({"rope_theta": 5e5, "rope_scaling": None}, "default", 5e5),
        ({"rope_theta": 5e5, "rope_scaling": LLAMA3_SCALING}, "llama3", 5e5),
        ({"rope_parameters": LLAMA3_SCALING | {"rope_theta": 5e5}}, "llama3", 5e5),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "linear", 10_000.0),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "yarn", 10_000.0),
    ],
)
def test_fixed_rope_scalings_are_accepted_in_either_spelling(
    settings: dict[str, Any],
    rope_type: str,
    theta: float,
    published: Published,
    facts: Callable[..., ModelFacts],
) -> None:
    found = facts({**published["small"], **settings})
    assert (found.rope_type, found.rope_theta, found.problems) == (rope_type, theta, ())


def test_frequencies_saved_by_old_checkpoints_are_no_parameters(
    published: Published,
    facts: Callable[..., ModelFacts],
    shapes_of: Callable[..., dict[str, tuple[int, ...]]],
) -> None:
    """Llama 1 and 2 were published with a rotary_emb.inv_freq per layer; the model computes it itself."""
    shapes = shapes_of(published["small"])
    old = shapes | {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": (8,) for i in range(2)}
    found = facts(published["small"], shapes=old)
    assert found.problems == ()
    assert found.parameters == facts(published["small"]).parameters


def test_a_relative_folder_is_made_absolute(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job runs in another working directory than the form that submitted it."""
    shutil.copytree(tiny_checkpoint, tmp_path / "my-model")
    monkeypatch.chdir(tmp_path)
    assert read_facts("my-model").folder == str(tmp_path / "my-model")
