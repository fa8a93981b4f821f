# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are headers only: as large as the real ones on paper, empty on the disk."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from core.facts import ModelFacts, read_facts

BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I64": 8, "F8_E4M3": 1, "I8": 1}
Shapes = Mapping[str, tuple[int, ...]]

LLAMA_2_7B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}
LLAMA_3_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "rope_theta": 500000.0,
}
SMOLLM_135M = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}
SMALL = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 512,
}


def llama_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor of a Llama checkpoint, as its published index lists them."""
    width, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or width // heads
    kv = (config.get("num_key_value_heads") or heads) * head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocab, width),
        "model.norm.weight": (width,),
    }
    if not config.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (vocab, width)
    for layer in range(config["num_hidden_layers"]):
        names = {
            "self_attn.q_proj": (heads * head_dim, width),
            "self_attn.k_proj": (kv, width),
            "self_attn.v_proj": (kv, width),
            "self_attn.o_proj": (width, heads * head_dim),
            "mlp.gate_proj": (inner, width),
            "mlp.up_proj": (inner, width),
            "mlp.down_proj": (width, inner),
            "input_layernorm": (width,),
            "post_attention_layernorm": (width,),
        }
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in names.items()}
    return shapes


def write_header(path: Path, shapes: Shapes, dtype: str) -> None:
    """A safetensors file of full size whose data part is a hole in the file."""
    entries: dict[str, Any] = {}
    position = 0
    for name, shape in shapes.items():
        size = BYTES[dtype]
        for dim in shape:
            size *= dim
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as handle:
        handle.write(len(text).to_bytes(8, "little") + text)
        handle.truncate(8 + len(text) + position)


@pytest.fixture
def hollow(tmp_path: Path) -> Callable[..., Path]:
    """hollow(config, dtype="BF16", shapes={...}) -> a folder with config.json and a hollow checkpoint."""

    def make(config: Mapping[str, Any], *, dtype: str = "BF16", shapes: Shapes | None = None) -> Path:
        folder = tmp_path / f"hollow-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        write_header(folder / "model.safetensors", shapes or llama_shapes(config), dtype)
        return folder

    return make


@pytest.fixture
def facts(hollow: Callable[..., Path]) -> Callable[..., ModelFacts]:
    """facts(config) -> what the workbench says of such a model."""

    def read(config: Mapping[str, Any], **options: Any) -> ModelFacts:
        return read_facts(str(hollow(config, **options)))

    return read


@pytest.fixture
def published() -> Mapping[str, Mapping[str, Any]]:
    """Configs of published models (the keys that matter), by name."""
    return {
        "Llama-2-7B": LLAMA_2_7B,
        "Llama-3-8B": LLAMA_3_8B,
        "SmolLM-135M": SMOLLM_135M,
        "small": SMALL,
    }


@pytest.fixture
def shapes_of() -> Callable[[Mapping[str, Any]], dict[str, tuple[int, ...]]]:
    """llama_shapes, for tests that change a shape."""
    return llama_shapes


@pytest.fixture
def header_to() -> Callable[[Path, Shapes, str], None]:
    """write_header, for tests that lay out several shards."""
    return write_header
