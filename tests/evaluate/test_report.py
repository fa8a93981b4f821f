# SPDX-License-Identifier: Apache-2.0
"""`evaluate` returns the object the command-line contract promises, and refuses what it cannot measure."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.errors import ModelError, TextError
from core.evaluate import compare, evaluate, load_model, perplexity
from core.weights.tokenizer import load_tokenizer

ARGUMENTS = {"context": 32, "windows": 3}


@pytest.fixture(scope="module")
def text(sample_text: Path) -> str:
    return sample_text.read_text(encoding="utf-8")[:4_000]


def test_a_plain_model_is_measured_alone(tiny_checkpoint: Path, text: str) -> None:
    """The text is tokenised whole, without special tokens, and cut from its start."""
    found = evaluate(tiny_checkpoint, text, base_folder=None, **ARGUMENTS)
    ids = torch.tensor(load_tokenizer(tiny_checkpoint)(text, add_special_tokens=False)["input_ids"])
    model = load_model(tiny_checkpoint, dtype=torch.float32, device="cpu")
    value, tokens = perplexity(model, ids, 32, 3)
    assert found == {"perplexity": value, "tokens": tokens}
    assert tokens == 3 * 31


def test_a_converted_model_is_compared_with_its_original(
    converted: Callable[[str], Path], tiny_checkpoint: Path, text: str
) -> None:
    """Bytes in the stored bfloat16, everything else in float32, and JSON holds all of it."""
    folder = converted("bfloat16")
    found = evaluate(folder, text, base_folder=tiny_checkpoint, **ARGUMENTS)
    assert list(found) == [
        "perplexity",
        "tokens",
        "perplexity_base",
        "kl_to_base",
        "top1_agreement",
        "kv_bytes_per_token",
    ]
    assert found["kv_bytes_per_token"] == {"formula": 116, "measured": 116}
    base = load_model(tiny_checkpoint, dtype=torch.float32, device="cpu")
    model = load_model(folder, dtype=torch.float32, device="cpu")
    ids = torch.tensor(load_tokenizer(tiny_checkpoint)(text, add_special_tokens=False)["input_ids"])
    expected = compare(base, model, ids, 32, 3)
    assert found["kl_to_base"] == expected.kl_to_base > 0
    assert found["perplexity"] == expected.perplexity != expected.perplexity_base
    assert json.loads(json.dumps(found)) == found


def test_a_converted_model_needs_its_original(converted: Callable[[str], Path], text: str) -> None:
    with pytest.raises(ModelError, match="original is not known"):
        evaluate(converted("float32"), text, base_folder=None, **ARGUMENTS)


def test_a_short_text_is_refused_before_weights_are_read(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """The folder has no weights at all, and still the text is what is complained about."""
    for file in tiny_checkpoint.glob("*.json"):
        shutil.copy(file, tmp_path)
    with pytest.raises(TextError, match="the text has 5 tokens, 3 windows of 32 need 96"):
        evaluate(tmp_path, "short", base_folder=None, **ARGUMENTS)


def test_missing_weights_are_refused(converted: Callable[[str], Path]) -> None:
    """transformers would fill them with random numbers and measure those."""
    folder = converted("float32")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.2.self_attn.v_b_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 weights are missing .*layers\.2\.self_attn\.v_b_proj"):
        load_model(folder, dtype=None, device="cpu")


def test_a_truncated_weight_file_is_refused(converted: Callable[[str], Path]) -> None:
    file = converted("float32") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="does not load"):
        load_model(file.parent, dtype=None, device="cpu")


def test_a_folder_without_a_tokenizer_is_refused(tiny_checkpoint: Path, tmp_path: Path, text: str) -> None:
    shutil.copy(tiny_checkpoint / "config.json", tmp_path)
    with pytest.raises(ModelError, match="tokenizer"):
        evaluate(tmp_path, text, base_folder=None, **ARGUMENTS)


def test_an_export_is_measured_without_running_the_code_in_it(
    converted: Callable[[str], Path], tiny_checkpoint: Path, text: str
) -> None:
    """That code is for others; here it is neither run nor asked about, for the model or the tokenizer."""
    folder = converted("float32")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["auto_map"] = {
        "AutoConfig": "modeling_mla.MLAConfig",
        "AutoModelForCausalLM": "modeling_mla.MLAForCausalLM",
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "modeling_mla.py").write_text("raise SystemExit('foreign code ran')", encoding="utf-8")
    found = evaluate(folder, text, base_folder=tiny_checkpoint, **ARGUMENTS)
    assert found["kv_bytes_per_token"]["measured"] == 232
    model = load_model(folder, dtype=None, device="cpu")
    assert type(model).__module__ == "core.modeling.modeling_mla"
