# SPDX-License-Identifier: Apache-2.0
"""What a model is, from config.json and safetensors headers only: no weight is read, no torch imported."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from core.arch import ARCHITECTURES, Architecture, find_architecture
from core.arch.architecture import FIXED_ROPE
from core.errors import ModelError
from core.kv_budget import DTYPE_BYTES, full_numbers
from core.model_config import (
    Dimensions,
    dimensions,
    integer,
    model_type_of,
    read_config,
    rope_parameters,
    rope_tables,
    unusable,
)
from core.settings import Settings
from core.spec import Frozen
from core.weights.index import TensorInfo, current_names
from core.weights.locate import Located, locate, tensors_of

# ModelFacts.rope_type of a model that has no rotary embedding
NO_ROPE = "none"


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
    rotary_dim: int = Field(description="dims of a head that rotate; 0 where positions are learned")
    rope_type: str
    rope_theta: float
    max_context: int
    vocab_size: int
    dtype: str
    parameters: int = Field(description="numbers in the checkpoint, tied ones counted once")
    weight_bytes: int
    is_tied: bool
    has_attention_bias: bool
    mlp_size: int = Field(
        0, description="channels inside the MLP; 0 where it is not made of plain matrices of one size"
    )
    has_qk_norm: bool = Field(False, description="every head's query and key is normed before it rotates")
    softcap: float | None = Field(None, description="what the scores of attention are bounded by")
    kv_numbers_per_layer: int = Field(description="numbers cached per token and layer")
    kv_bytes_per_token: int
    problems: tuple[Problem, ...] = ()

    @property
    def latent_inputs(self) -> int:
        """How many numbers a latent is a linear map of: the layer's input, or u (core/qk_norm.py)."""
        width = (self.heads + 2 * self.kv_heads) * self.head_dim
        return width if self.has_qk_norm else self.hidden_size

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
        raise unusable("text_config")
    try:
        return _facts(located, tensors, config, text)
    except ModelError as error:
        if "model_type" in config and find_architecture(model_type_of(config)) is None:
            problem = _unknown_family(config)
            raise ModelError(problem.message, hint=problem.hint, field="model") from error
        raise


def _facts(
    located: Located, tensors: Mapping[str, TensorInfo], config: dict[str, Any], text: dict[str, Any]
) -> ModelFacts:
    model_type = model_type_of(config)
    family = find_architecture(model_type)
    if family is not None:
        text, tensors = family.read_config(config), current_names(tensors, family)
    size, rope = dimensions(text, family), rope_parameters(text)
    dtype = _main_dtype(tensors)
    numbers = full_numbers(size.kv_heads, size.head_dim)
    return ModelFacts(
        name=located.name,
        kind=located.kind,
        folder=str(located.folder),
        revision=located.revision,
        model_type=model_type,
        family=family.family if family else model_type,
        layers=size.layers,
        hidden_size=size.hidden_size,
        heads=size.heads,
        kv_heads=size.kv_heads,
        head_dim=size.head_dim,
        rotary_dim=size.rotary_dim,
        rope_type=str(rope["rope_type"]) if size.rotary_dim else NO_ROPE,
        rope_theta=rope["rope_theta"] if size.rotary_dim else 0.0,
        max_context=integer(text, "max_position_embeddings", smallest=0),
        vocab_size=integer(text, "vocab_size", smallest=0),
        dtype=dtype,
        parameters=sum(tensor.numbers for tensor in tensors.values()),
        weight_bytes=sum(tensor.numbers * DTYPE_BYTES.get(tensor.dtype, 1) for tensor in tensors.values()),
        is_tied=f"{family.head if family else 'lm_head'}.weight" not in tensors,
        has_attention_bias=family is not None and _has_bias(family, tensors),
        mlp_size=_mlp_size(tensors, family, size.layers, size.hidden_size),
        has_qk_norm=family is not None and family.qk_norm is not None,
        softcap=text.get(family.softcap) if family is not None else None,
        kv_numbers_per_layer=numbers,
        kv_bytes_per_token=size.layers * numbers * DTYPE_BYTES.get(dtype, 2),
        problems=tuple(_problems(config, text, family, tensors, dtype, size)),
    )


def _mlp_size(
    tensors: Mapping[str, TensorInfo], family: Architecture | None, layers: int, hidden: int
) -> int:
    """Channels inside the MLP when every layer has the family's plain matrices in one size, else 0."""
    if family is None or family.mlp is None:
        return 0
    sizes = set()
    for layer in range(layers):
        for path in filter(None, family.mlp):
            found = tensors.get(f"{family.layer.format(i=layer)}.{path}.weight")
            shape = found.shape if found else ()
            sizes.add(tuple(reversed(shape)) if path == family.mlp[2] else tuple(shape))
    inner = next(iter(sizes), ())
    return inner[0] if len(sizes) == 1 and len(inner) == 2 and inner[1] == hidden else 0


def _main_dtype(tensors: Mapping[str, TensorInfo]) -> str:
    """The dtype that most numbers of the checkpoint have; a cache is kept in it."""
    totals: dict[str, int] = {}
    for tensor in tensors.values():
        totals[tensor.dtype] = totals.get(tensor.dtype, 0) + tensor.numbers
    return max(totals, key=lambda dtype: totals[dtype]) if totals else "float32"


def _has_bias(family: Architecture, tensors: Mapping[str, TensorInfo]) -> bool:
    return any(family.tensor(0, projection, "bias") in tensors for projection in family.projections)


def _problems(
    config: dict[str, Any],
    text: dict[str, Any],
    family: Architecture | None,
    tensors: Mapping[str, TensorInfo],
    dtype: str,
    size: Dimensions,
) -> list[Problem]:
    if family is None:
        return [_unknown_family(config)]
    problems = []
    for rope in {str(table["rope_type"]) for table in rope_tables(text)} if family.rotary else ():
        if rope not in family.rope_types:
            problems.append(
                Problem(
                    message=f"rope type '{rope}' changes with the context length and cannot be converted"
                    if rope not in FIXED_ROPE
                    else f"rope type '{rope}' is none that {family.family} models have",
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
    for one in family.refused:
        if not one.allows(text):
            said = json.dumps(text[one.key], default=str)
            problems.append(Problem(message=f"config.json sets {one.key} to {said}", hint=one.hint))
    problems += _shape_problems(family, tensors, size)
    return problems


def _unknown_family(config: dict[str, Any]) -> Problem:
    supported = ", ".join(sorted(kind for one in ARCHITECTURES for kind in one.model_types))
    return Problem(
        message=f"models of type '{config.get('model_type', 'unknown')}' cannot be converted yet",
        hint=f"supported model types: {supported}",
    )


def _shape_problems(
    family: Architecture, tensors: Mapping[str, TensorInfo], size: Dimensions
) -> list[Problem]:
    """Compare every attention tensor's shape in the headers with what config.json promises."""
    if size.heads % size.kv_heads:
        what = f"{size.heads} heads do not divide into {size.kv_heads} KV heads"
        return [Problem(message=what, hint="check config.json")]
    for name, dims in (("head_dim", size.head_dim), ("the rotary part of a head", size.rotary_dim)):
        if dims % 2:
            return [Problem(message=f"{name} {dims} is odd", hint="RoPE needs an even head_dim")]
    for layer in range(size.layers):
        for projection, shape in _projection_shapes(family, size).items():
            name = family.tensor(layer, projection)
            found = tensors.get(name)
            if found is None or found.shape != shape:
                what = f"has shape {found.shape}, config.json says {shape}" if found else "is missing"
                return [Problem(message=f"{name} {what}", hint="the files do not belong to this config.json")]
    return []


def _projection_shapes(family: Architecture, size: Dimensions) -> dict[str, tuple[int, int]]:
    """Shapes of the weights of attention's projections, as they are stored."""
    queries, keys = size.heads * size.head_dim, size.kv_heads * size.head_dim
    rows = (queries, keys, keys) if family.fused is None else (queries + 2 * keys,)
    shapes = {name: (out, size.hidden_size) for name, out in zip(family.projections, rows, strict=True)}
    shapes[family.output] = (size.hidden_size, queries)
    if family.has_transposed_weights:
        return {name: (inputs, out) for name, (out, inputs) in shapes.items()}
    return shapes


__all__ = ["ModelFacts", "Problem", "facts_of", "read_facts"]
