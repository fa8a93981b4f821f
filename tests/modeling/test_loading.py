# SPDX-License-Identifier: Apache-2.0
"""A converted model survives the disk: names, ties, dtypes, frequencies, and a process that knows nothing."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from core.modeling import LatentAttention, MLAForCausalLM, export_source
from tests.modeling.exact_layouts import convert_layouts
from tests.modeling.exact_mla import convert_exactly, make_base, some_ids

KEPT = torch.tensor([[0, 3], [1, 6]])
AUTO_MAP = {"AutoConfig": "modeling_mla.MLAConfig", "AutoModelForCausalLM": "modeling_mla.MLAForCausalLM"}


def stored_names(folder: Path) -> set[str]:
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        return set(file.keys())


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("has_bias", [True, False])
def test_round_trip_is_bit_exact(tmp_path: Path, is_tied: bool, has_bias: bool) -> None:
    """Same logits to the last bit in both layouts; a tied head is stored once and tied again."""
    base = make_base(dtype=torch.float32, tie_word_embeddings=is_tied, attention_bias=has_bias)
    model = convert_layouts(base, ("per-head", "pre-rope"))
    model.save_pretrained(tmp_path)
    assert ("lm_head.weight" in stored_names(tmp_path)) is not is_tied
    loaded, found = MLAForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not found["missing_keys"] | found["unexpected_keys"] | found["mismatched_keys"]
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) is is_tied
    ids = some_ids()
    assert torch.equal(loaded(ids).logits, model(ids).logits)


def test_tensors_outside_attention_keep_their_names(tmp_path: Path) -> None:
    """Other tools find embeddings, MLPs, norms and head where the original has them."""
    base = make_base(dtype=torch.float32)
    base.save_pretrained(tmp_path / "base")
    convert_exactly(base, KEPT).save_pretrained(tmp_path / "mla")
    before, after = stored_names(tmp_path / "base"), stored_names(tmp_path / "mla")
    assert {n for n in after if "self_attn" not in n} == {n for n in before if "self_attn" not in n}
    assert {n.removeprefix("model.layers.0.self_attn.") for n in after if "layers.0.self_attn" in n} == {
        "q_proj.weight",
        "kv_a_proj_with_mqa.weight",
        "k_b_proj.weight",
        "v_b_proj.weight",
        "o_proj.weight",
        "inv_freq",
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_frequencies_stay_exact_in_half_precision(tmp_path: Path, dtype: torch.dtype) -> None:
    """Loaded as half, or cast afterwards: inv_freq keeps every float32 bit, the weights do not."""
    model = convert_exactly(make_base(dtype=torch.float32), KEPT)
    model.save_pretrained(tmp_path)
    exact = model.model.layers[0].self_attn.inv_freq.clone()
    assert not torch.equal(exact, exact.to(dtype).float()), "these frequencies would not show a rounding"
    loaded = MLAForCausalLM.from_pretrained(tmp_path, dtype=dtype)
    cast = MLAForCausalLM.from_pretrained(tmp_path).to(dtype)
    for half in (loaded, cast):
        attention = half.model.layers[0].self_attn
        assert attention.q_proj.weight.dtype == dtype
        assert attention.inv_freq.dtype == torch.float32
        assert torch.equal(attention.inv_freq, exact)
    ids = some_ids()
    assert torch.equal(loaded(ids).logits, cast(ids).logits)
    # and once more through the disk, as the export of a bfloat16 checkpoint is stored
    loaded.save_pretrained(tmp_path / "half")
    again = MLAForCausalLM.from_pretrained(tmp_path / "half", dtype="auto")
    assert again.dtype == dtype
    assert torch.equal(again.model.layers[0].self_attn.inv_freq, exact)


def test_loading_is_lazy_and_leaves_nothing_on_meta(tmp_path: Path) -> None:
    """Under the meta device nothing is allocated; after from_pretrained everything is real.

    The rotary tables of the base are not stored, so they must be computed again.
    """
    base = make_base(dtype=torch.float32)
    model = convert_exactly(base, KEPT)
    model.save_pretrained(tmp_path)
    with torch.device("meta"):
        empty = MLAForCausalLM(model.config)
    assert {tensor.device.type for tensor in empty.state_dict().values()} == {"meta"}
    loaded = MLAForCausalLM.from_pretrained(tmp_path)
    tensors = [*loaded.parameters(), *loaded.buffers()]
    assert not any(tensor.is_meta for tensor in tensors)
    assert torch.equal(loaded.model.rotary_emb.inv_freq, base.model.rotary_emb.inv_freq)
    assert all(isinstance(layer.self_attn, LatentAttention) for layer in loaded.model.layers)


def test_an_empty_meta_model_can_be_filled_layer_by_layer() -> None:
    """What the engine does to check an export without holding a model."""
    model = convert_exactly(make_base(dtype=torch.float32), KEPT).to(torch.bfloat16)
    with torch.device("meta"):
        empty = MLAForCausalLM(model.config).to(torch.bfloat16).eval()
    layer, expected = empty.model.layers[1], model.model.layers[1]
    layer.load_state_dict(expected.state_dict(), strict=True, assign=True)
    hidden, positions = torch.randn(1, 5, 64, dtype=torch.bfloat16), torch.arange(5)[None]
    found = layer(hidden, attention_mask=None, position_ids=positions)
    assert torch.equal(found, expected(hidden, attention_mask=None, position_ids=positions))


SCRIPT = """
import sys, torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
torch.set_num_threads(1)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True, dtype="auto")
assert not [name for name in sys.modules if name.split(".")[0] in ("core", "tests")], "not standalone"
ids = load_file(sys.argv[2])["ids"]
with torch.no_grad():
    logits = model(ids).logits
save_file({"logits": logits, "tokens": model.generate(ids, max_new_tokens=5, do_sample=False)}, sys.argv[3])
"""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_an_export_loads_in_a_fresh_offline_process(tmp_path: Path, dtype: torch.dtype) -> None:
    """With only the folder, transformers and no network: the same logits and generation, in either layout."""
    base = make_base(dtype=torch.float32, attention_bias=True)
    model = convert_layouts(base, ("pre-rope", "per-head")).to(dtype)
    folder = tmp_path / "export"
    model.config.auto_map = AUTO_MAP
    model.save_pretrained(folder)
    shutil.copy(export_source(), folder)
    ids = some_ids()
    _save(tmp_path / "ids.safetensors", ids=ids)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, folder, tmp_path / "ids.safetensors", tmp_path / "out.safetensors"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    with safe_open(tmp_path / "out.safetensors", framework="pt") as found:
        logits, tokens = found.get_tensor("logits"), found.get_tensor("tokens")
    with _one_thread():
        assert logits.dtype == dtype
        # where memory is aligned otherwise sums may differ in order: one rounding of logits between 8 and 16
        torch.testing.assert_close(logits, model(ids).logits, rtol=0, atol=8 * torch.finfo(dtype).eps)
        assert torch.equal(tokens, model.generate(ids, max_new_tokens=5, do_sample=False))


@contextmanager
def _one_thread() -> Iterator[None]:
    """As many threads as the fresh process has: how a sum is split over threads decides its last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_shipped_file_imports_nothing_of_this_project() -> None:
    """It must run where only torch and transformers are."""
    lines = export_source().read_text(encoding="utf-8").splitlines()
    roots = {line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))}
    assert roots <= {"torch", "transformers"} | set(sys.stdlib_module_names)


def _save(path: Path, **tensors: Any) -> None:
    from safetensors.torch import save_file

    save_file(tensors, path)


def test_config_json_says_what_tools_look_for(tmp_path: Path) -> None:
    """Programs that read only config.json find the original's attributes at the top level."""
    base = make_base(dtype=torch.float32)
    convert_exactly(base, KEPT).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    for key in (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "max_position_embeddings",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "tie_word_embeddings",
        "rope_parameters",
    ):
        assert config[key] == base.config.to_dict()[key], key
    assert config["model_type"] == "mla_workbench"
    assert config["base_config"]["model_type"] == "llama"
