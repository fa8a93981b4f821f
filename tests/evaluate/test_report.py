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
from core.evaluate import compare, evaluate, evaluate_texts, load_model, perplexity
from core.evaluate.reach import learned_positions
from core.weights.tokenizer import load_tokenizer
from tests.families.tiny import make_family

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
        "paired",
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


def test_the_figures_lie_in_their_intervals(
    converted: Callable[[str], Path], tiny_checkpoint: Path, text: str
) -> None:
    """`paired` is about the same windows and tokens as the figures beside it."""
    found = evaluate(converted("float32"), text, base_folder=tiny_checkpoint, context=32, windows=8)
    paired = found["paired"]
    assert paired["windows"] == 8
    expected = {
        "perplexity_ratio": found["perplexity"] / found["perplexity_base"],
        "kl_to_base": found["kl_to_base"],
        "top1_agreement": found["top1_agreement"],
    }
    for name, value in expected.items():
        # means of windows of one length are the mean of all tokens, to rounding
        assert paired[name]["value"] == pytest.approx(value, rel=1e-9)
        assert paired[name]["low"] < value < paired[name]["high"]
    assert 2 / 2**8 <= paired["p_value"] <= 1


def test_one_window_has_no_interval(
    converted: Callable[[str], Path], tiny_checkpoint: Path, text: str
) -> None:
    found = evaluate(converted("float32"), text, base_folder=tiny_checkpoint, context=32, windows=1)
    assert found["paired"] is None


def test_several_texts_are_each_what_they_are_alone(
    converted: Callable[[str], Path], tiny_checkpoint: Path, text: str
) -> None:
    """One load of the models, one set of figures for each text, by position too."""
    folder, halves = converted("float32"), {"first": text[:2_000], "second": text[2_000:]}
    asked = {"base_folder": tiny_checkpoint, "by_position": True, **ARGUMENTS}
    found = evaluate_texts(folder, halves, **asked)
    assert list(found["texts"]) == ["first", "second"]
    for name, half in halves.items():
        alone = evaluate(folder, half, **asked)
        bytes_alone = alone.pop("kv_bytes_per_token")
        assert (found["texts"][name], found["kv_bytes_per_token"]) == (alone, bytes_alone)


def test_the_text_that_is_too_short_is_named(tiny_checkpoint: Path, text: str) -> None:
    with pytest.raises(TextError, match="second: the text has 5 tokens"):
        evaluate_texts(tiny_checkpoint, {"first": text, "second": "short"}, base_folder=None, **ARGUMENTS)


@pytest.mark.parametrize("family", ["gpt2", "opt"])
def test_a_context_beyond_learned_positions_is_refused(family: str, tmp_path: Path, text: str) -> None:
    """By name, before any weight is read: the model itself would fail with an index error."""
    folder = make_family(family, tmp_path / family)
    most = learned_positions(folder)
    assert most is not None
    with pytest.raises(ModelError, match=f"beyond the {most:,} positions this model has learned") as caught:
        evaluate(folder, text * 10, base_folder=None, context=most + 1, windows=1)
    assert caught.value.field == "context"
    assert evaluate(folder, text * 10, base_folder=None, context=most, windows=1)["tokens"] == most - 1


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
