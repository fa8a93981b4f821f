# SPDX-License-Identifier: Apache-2.0
"""What config.json says of a transformer's shape, under one set of names."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.arch import Architecture
from core.errors import ModelError


@dataclass(frozen=True)
class Dimensions:
    """Sizes of attention; the first `rotary_dim` dims of a head rotate, none when positions are learned."""

    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    rotary_dim: int


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed config.json of `folder`; raises ModelError when missing or broken."""
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(
            f"'{folder}' has no config.json", hint="give the folder that holds the model", field="model"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError("config.json does not parse", hint="fetch the file again", field="model") from error
    if not isinstance(config, dict):
        raise ModelError("config.json is not an object", hint="fetch the file again", field="model")
    return config


def model_type_of(config: Mapping[str, Any]) -> str:
    """The model_type of config.json; "llava+llama" for a model whose text_config is of another type."""
    text = config.get("text_config")
    own = str(config.get("model_type", "unknown"))
    return f"{own}+{text.get('model_type', 'llama')}" if isinstance(text, dict) else own


def dimensions(text: Mapping[str, Any], family: Architecture | None) -> Dimensions:
    """Sizes from the config `family` reads; raises ModelError when one is missing or no number."""
    heads, hidden = integer(text, "num_attention_heads"), integer(text, "hidden_size")
    head_dim = integer(text, "head_dim", hidden // heads)
    rotary = head_dim
    if family is not None and not family.rotary:
        rotary = 0
    elif family is not None and family.is_partly_rotary:
        rotary = int(head_dim * rope_parameters(text)["partial_rotary_factor"])
    return Dimensions(
        layers=integer(text, "num_hidden_layers"),
        hidden_size=hidden,
        heads=heads,
        kv_heads=integer(text, "num_key_value_heads", heads),
        head_dim=head_dim,
        rotary_dim=rotary,
    )


def rope_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """RoPE settings in transformers-5 form, from either spelling (rope_parameters or rope_scaling).

    Of a model with one table for each type of layer, those of full attention.
    """
    return rope_tables(config)[0]


def rope_tables(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The settings of every rotary table, that of full attention first."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(given, dict):
        raise unusable("rope_scaling")
    by_type = [given[kind] for kind in ("full_attention", "sliding_attention") if kind in given]
    return [_table(config, one) for one in by_type or [given]]


def _table(config: Mapping[str, Any], given: object) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise unusable("rope_parameters")
    rope = dict(given)
    rope["rope_type"] = rope.get("rope_type") or rope.pop("type", None) or "default"
    for name, usual in (("rope_theta", 10_000.0), ("partial_rotary_factor", 1.0)):
        value = rope.get(name) or config.get(name) or usual
        if not isinstance(value, int | float):
            raise unusable(name)
        rope[name] = float(value)
    return rope


def integer(config: Mapping[str, Any], key: str, default: int = 0, smallest: int = 1) -> int:
    """The number `key` of a config, or `default`; raises ModelError when it is neither or too small."""
    value = config.get(key) or default
    if not isinstance(value, int) or value < smallest:
        raise unusable(key)
    return value


def unusable(key: str) -> ModelError:
    """The error for a value of config.json that says nothing."""
    return ModelError(
        f"config.json has no usable '{key}'",
        hint="this does not look like the config of a transformer language model",
        field="model",
    )


__all__ = [
    "Dimensions",
    "dimensions",
    "integer",
    "model_type_of",
    "read_config",
    "rope_parameters",
    "rope_tables",
    "unusable",
]
