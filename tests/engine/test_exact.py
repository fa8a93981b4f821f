# SPDX-License-Identifier: Apache-2.0
"""What a conversion must leave unchanged, for every habit of the Llama family."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from core.evaluate import load_model
from core.spec import JobSpec
from core.weights.index import read_index

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
FAMILY = {
    "gqa": {},
    "mha": {"num_key_value_heads": 4},
    "mqa": {"num_key_value_heads": 1},
    "bias": {"attention_bias": True},
    "untied": {"tie_word_embeddings": False},
    "wide heads": {"head_dim": 32},
    "linear scaling": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}},
    "llama 3 scaling": {"rope_parameters": LLAMA3},
    "yarn scaling": {"rope_parameters": YARN},
}


@pytest.mark.parametrize("habit", FAMILY)
def test_keeping_everything_gives_the_original_logits(
    habit: str,
    tiny_llama: Callable[..., Path],
    tiny_spec: Callable[..., JobSpec],
    convert_to: Callable[..., Any],
) -> None:
    """Full rank and every pair kept: only float32 rounding of the factors may show, logits are of size 10."""
    base = tiny_llama(**FAMILY[habit])
    result, sink = convert_to(tiny_spec(base, keep=1.0))
    tokens = torch.randint(0, 256, (2, 100), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)(tokens).logits
        found = load_model(result, dtype=torch.float32, device="cpu")(tokens).logits
    assert wanted.abs().max() > 1  # a dead model would agree with anything
    assert (wanted - found).abs().max() < 1e-3
    assert sink.metrics["logits_difference"] < 1e-4


@pytest.mark.parametrize(("weights", "norms"), [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_norms_in_another_dtype_than_the_weights_keep_it(
    weights: str,
    norms: str,
    tiny_llama: Callable[..., Path],
    tiny_spec: Callable[..., JobSpec],
    convert_to: Callable[..., Any],
) -> None:
    """The file keeps both dtypes; loaded, everything has the one of the config, and so had the probe.

    In float32 the conversion is exact; attention written in bfloat16 is not, which says nothing of norms.
    """
    base = tiny_llama(dtype=weights)
    tensors = load_file(base / "model.safetensors")
    mixed = {n: t.to(getattr(torch, norms)) if "norm" in n else t for n, t in tensors.items()}
    save_file(mixed, base / "model.safetensors", metadata={"format": "pt"})
    result, sink = convert_to(tiny_spec(base, keep=1.0))
    for name, info in read_index(result).items():
        assert info.dtype == (norms if "norm" in name else "float32" if "inv_freq" in name else weights)
    assert sink.metrics["logits_difference"] < (1e-4 if weights == "float32" else 2**-4)
    if weights == "float32":
        tokens = torch.arange(100)[None]
        with torch.no_grad():
            wanted = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)(tokens).logits
            found = load_model(result, dtype=torch.float32, device="cpu")(tokens).logits
        assert (wanted - found).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("form", "kv_heads", "rope_dim", "kv_rank"),
    [("joint", 2, 0, 10), ("split", 2, 4, 13), ("split", 1, 4, 15)],
)
def test_no_rotary_dims_and_odd_ranks_convert(
    form: str,
    kv_heads: int,
    rope_dim: int,
    kv_rank: int,
    tiny_llama: Callable[..., Path],
    tiny_spec: Callable[..., JobSpec],
    convert_to: Callable[..., Any],
) -> None:
    """The latent has kv_rank numbers per KV head; split halves 26 into 13 and 13, and 15 into 7 and 8."""
    recipe = {"factor_form": form}
    base = tiny_llama(num_key_value_heads=kv_heads)
    _, sink = convert_to(tiny_spec(base, rope_dim=rope_dim, kv_rank=kv_rank, recipe=recipe))
    cached = 4 * kv_heads * (kv_rank + rope_dim) * 4  # layers, numbers, bytes of float32
    assert sink.metrics["kv_bytes_per_token_measured"] == cached
    assert sink.metrics["logits_difference"] < 1e-4


def test_full_rank_with_few_rotary_dims_keeps_keys_and_values(
    tiny_checkpoint: Path, tiny_spec: Callable[..., JobSpec], convert_to: Callable[..., Any]
) -> None:
    """kv_rank at its largest: nothing is truncated, whatever was de-rotated."""
    _, sink = convert_to(tiny_spec(tiny_checkpoint, rope_dim=4, kv_rank=28))
    rows = next(event.data["rows"] for event in sink.of("figure") if event.name == "layers")
    assert all(row["key_error"] < 1e-6 and row["value_error"] < 1e-6 for row in rows)


@pytest.mark.parametrize(
    ("select", "form"),
    [("2-norm", "split"), ("high", "joint"), ("low", "joint"), ("uniform", "split"), ("2-norm", "joint")],
)
def test_every_choice_converts_and_caches_what_the_plan_says(
    form: str,
    select: str,
    tiny_checkpoint: Path,
    tiny_spec: Callable[..., JobSpec],
    convert_to: Callable[..., Any],
) -> None:
    """keep 0.5 of 64 numbers is 32, by formula and in a real cache (float32, 4 layers)."""
    spec = tiny_spec(tiny_checkpoint, keep=0.5, recipe={"rope_select": select, "factor_form": form})
    result, sink = convert_to(spec)
    assert sink.metrics["kv_bytes_per_token_formula"] == 4 * 32 * 4
    assert sink.metrics["kv_bytes_per_token_measured"] == 4 * 32 * 4
    assert (result / "modeling_mla.py").is_file()
    assert (result / "tokenizer.json").read_bytes() == (tiny_checkpoint / "tokenizer.json").read_bytes()


def test_the_written_dtype_is_the_checkpoints(
    tiny_llama: Callable[..., Path], tiny_spec: Callable[..., JobSpec], convert_to: Callable[..., Any]
) -> None:
    """Weights leave as they came, but frequencies stay float32."""
    result, _ = convert_to(tiny_spec(tiny_llama(dtype="bfloat16"), keep=0.5))
    dtypes = {name: info.dtype for name, info in read_index(result).items()}
    assert {dtype for name, dtype in dtypes.items() if not name.endswith("inv_freq")} == {"bfloat16"}
    assert {dtype for name, dtype in dtypes.items() if name.endswith("inv_freq")} == {"float32"}
