# SPDX-License-Identifier: Apache-2.0
"""What a model is, from config.json and safetensors headers only: no weight is read, no torch imported."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from core.arch import ARCHITECTURES, Architecture, find_architecture
from core.errors import ModelError
from core.kv_budget import DTYPE_BYTES, full_numbers
from core.settings import Settings
from core.spec import Frozen
from core.weights.index import TensorInfo
from core.weights.locate import Located, locate, tensors_of


class Problem(Frozen):
    """Why something cannot be done, and what to change."""

    message: str
    hint: str
    field: str = "model"


class ModelFacts(Frozen):
    """Shape and cost of a pretrained model. `problems` is empty when it can be converted."""

    name: str = Field(description="what the user typed: folder, Hub id, demo")
    kind: str
    folder: str
    revision: str | None
    model_type: str
    family: str
    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    rope_type: str
    rope_theta: float
    max_context: int
    vocab_size: int
    dtype: str
    parameters: int = Field(description="numbers in the checkpoint, tied ones counted once")
    weight_bytes: int
    is_tied: bool
    has_attention_bias: bool
    kv_numbers_per_layer: int = Field(description="numbers cached per token and layer")
    kv_bytes_per_token: int
    problems: tuple[Problem, ...] = ()

    @property
    def attention_kind(self) -> str:
        """MHA, GQA or MQA."""
        return "MHA" if self.kv_heads == self.heads else "MQA" if self.kv_heads == 1 else "GQA"

    def raise_if_unsupported(self) -> None:
        """Raise ModelError for the first problem, if there is one."""
        if self.problems:
            raise ModelError(self.problems[0].message, hint=self.problems[0].hint, field="model")


def read_facts(model: str, *, revision: str | None = None, settings: Settings | None = None) -> ModelFacts:
    """Facts of `model` (folder, Hub id or demo); raises ModelError when it cannot be found or parsed.

    Of a Hub model, config, index and safetensors headers are fetched, never the weights.
    """
    located = locate(model, revision=revision, weights=False, settings=settings)
    return facts_of(located, tensors_of(located))


def facts_of(located: Located, tensors: Mapping[str, TensorInfo]) -> ModelFacts:
    """Facts from a model's config.json and the headers of its tensors.

    Raises ModelError when config.json has no usable dimensions; for a family that cannot be converted, which
    may well call them otherwise, the error says that instead.
    """
    config = read_config(located.folder)
    text = config.get("text_config", config)
    if not isinstance(text, dict):
        raise _unusable("text_config")
    try:
        return _facts(located, tensors, config, text)
    except ModelError as error:
        family = find_architecture(str(text.get("model_type", "unknown")))
        if "model_type" in config and (family is None or text is not config):
            problem = _unknown_family(config)
            raise ModelError(problem.message, hint=problem.hint, field="model") from error
        raise


def _facts(
    located: Located, tensors: Mapping[str, TensorInfo], config: dict[str, Any], text: dict[str, Any]
) -> ModelFacts:
    model_type = str(text.get("model_type", "unknown"))
    family = find_architecture(model_type)
    heads = _integer(text, "num_attention_heads")
    hidden = _integer(text, "hidden_size")
    kv_heads = _integer(text, "num_key_value_heads", heads)
    head_dim = _integer(text, "head_dim", hidden // heads)
    layers = _integer(text, "num_hidden_layers")
    rope = rope_parameters(text)
    dtype = _main_dtype(tensors)
    numbers = full_numbers(kv_heads, head_dim)
    return ModelFacts(
        name=located.name,
        kind=located.kind,
        folder=str(located.folder),
        revision=located.revision,
        model_type=model_type,
        family=family.family if family else model_type,
        layers=layers,
        hidden_size=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        rope_type=str(rope["rope_type"]),
        rope_theta=rope["rope_theta"],
        max_context=_integer(text, "max_position_embeddings", smallest=0),
        vocab_size=_integer(text, "vocab_size", smallest=0),
        dtype=dtype,
        parameters=sum(tensor.numbers for tensor in tensors.values()),
        weight_bytes=sum(tensor.numbers * DTYPE_BYTES.get(tensor.dtype, 1) for tensor in tensors.values()),
        is_tied="lm_head.weight" not in tensors,
        has_attention_bias=bool(text.get("attention_bias", False)),
        kv_numbers_per_layer=numbers,
        kv_bytes_per_token=layers * numbers * DTYPE_BYTES.get(dtype, 2),
        problems=tuple(_problems(config, text, family, tensors, dtype, layers)),
    )


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


def rope_parameters(config: dict[str, Any]) -> dict[str, Any]:
    """RoPE settings in transformers-5 form, from either spelling (rope_parameters or rope_scaling)."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(given, dict):
        raise _unusable("rope_scaling")
    rope = dict(given)
    rope["rope_type"] = rope.get("rope_type") or rope.pop("type", None) or "default"
    theta = rope.get("rope_theta") or config.get("rope_theta") or 10_000.0
    if not isinstance(theta, int | float):
        raise _unusable("rope_theta")
    rope["rope_theta"] = float(theta)
    return rope


def _integer(config: dict[str, Any], key: str, default: int = 0, smallest: int = 1) -> int:
    value = config.get(key) or default
    if not isinstance(value, int) or value < smallest:
        raise _unusable(key)
    return value


def _unusable(key: str) -> ModelError:
    return ModelError(
        f"config.json has no usable '{key}'",
        hint="this does not look like the config of a transformer language model",
        field="model",
    )


def _main_dtype(tensors: Mapping[str, TensorInfo]) -> str:
    """The dtype that most numbers of the checkpoint have; a cache is kept in it."""
    totals: dict[str, int] = {}
    for tensor in tensors.values():
        totals[tensor.dtype] = totals.get(tensor.dtype, 0) + tensor.numbers
    return max(totals, key=lambda dtype: totals[dtype]) if totals else "float32"


def _problems(
    config: dict[str, Any],
    text: dict[str, Any],
    family: Architecture | None,
    tensors: Mapping[str, TensorInfo],
    dtype: str,
    layers: int,
) -> list[Problem]:
    if family is None or text is not config:
        return [_unknown_family(config)]
    problems = []
    rope = rope_parameters(text)["rope_type"]
    if rope not in family.rope_types:
        problems.append(
            Problem(
                message=f"rope type '{rope}' changes with the context length and cannot be converted",
                hint=f"supported rope types: {', '.join(family.rope_types)}",
            )
        )
    if "quantization_config" in config or dtype not in DTYPE_BYTES:
        problems.append(
            Problem(
                message="the checkpoint is quantised",
                hint="convert the float checkpoint it was made from",
            )
        )
    for key, plain in family.plain_only:
        if text.get(key, plain) not in (plain, None):
            problems.append(
                Problem(message=f"config.json sets {key}", hint="only full causal attention can be converted")
            )
    problems += _shape_problems(text, family, tensors, layers)
    return problems


def _unknown_family(config: dict[str, Any]) -> Problem:
    supported = ", ".join(sorted(kind for one in ARCHITECTURES for kind in one.model_types))
    return Problem(
        message=f"models of type '{config.get('model_type', 'unknown')}' cannot be converted yet",
        hint=f"supported model types: {supported}",
    )


def _shape_problems(
    text: dict[str, Any], family: Architecture, tensors: Mapping[str, TensorInfo], layers: int
) -> list[Problem]:
    """Compare every attention tensor's shape in the headers with what config.json promises."""
    hidden = text["hidden_size"]
    heads = text["num_attention_heads"]
    kv_heads = text.get("num_key_value_heads") or heads
    head_dim = text.get("head_dim") or hidden // heads
    if heads % kv_heads:
        return [
            Problem(message=f"{heads} heads do not divide into {kv_heads} KV heads", hint="check config.json")
        ]
    if head_dim % 2:
        return [Problem(message=f"head_dim {head_dim} is odd", hint="RoPE needs an even head_dim")]
    expected = {
        family.query: (heads * head_dim, hidden),
        family.key: (kv_heads * head_dim, hidden),
        family.value: (kv_heads * head_dim, hidden),
        family.output: (hidden, heads * head_dim),
    }
    for layer in range(layers):
        for projection, shape in expected.items():
            name = family.tensor(layer, projection)
            found = tensors.get(name)
            if found is None or found.shape != shape:
                what = f"has shape {found.shape}, config.json says {shape}" if found else "is missing"
                return [Problem(message=f"{name} {what}", hint="the files do not belong to this config.json")]
    return []


__all__ = ["ModelFacts", "Problem", "facts_of", "read_config", "read_facts", "rope_parameters"]
