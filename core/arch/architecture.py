# SPDX-License-Identifier: Apache-2.0
"""What the engine needs to know of a model family, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# rotations whose frequencies are fixed when the model is loaded; the others change with the context length
# (dynamic, longrope) and cannot be written down as one inv_freq per layer
FIXED_ROPE = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True)
class Fused:
    """One projection that gives queries, keys and values together.

    by_head: rows are q, k and v of head 0, then of head 1 and so on (GPT-NeoX); otherwise all queries come
    first, then all keys, then all values.
    """

    projection: str
    by_head: bool = False


@dataclass(frozen=True)
class QKNorm:
    """Norms of every head's query and key, inside the attention module.

    heads_first: they see (batch, heads, tokens, d_h), otherwise (batch, tokens, heads, d_h).
    """

    query: str = "q_norm"
    key: str = "k_norm"
    heads_first: bool = False


@dataclass(frozen=True)
class Experts:
    """Where checkpoints have the matrices of expert {e}, inside a layer; the stacks are transformers'."""

    gate: str = "mlp.experts.{e}.gate_proj.weight"
    up: str = "mlp.experts.{e}.up_proj.weight"
    down: str = "mlp.experts.{e}.down_proj.weight"
    gate_up_stack: str = "mlp.experts.gate_up_proj"
    down_stack: str = "mlp.experts.down_proj"


@dataclass(frozen=True)
class Refused:
    """A config key that changes the model in a way that is not supported, unless it has the value `plain`.

    With `same_as` it must have the value of that key instead.
    """

    key: str
    plain: object
    hint: str = "only full causal attention can be converted"
    same_as: str = ""

    def allows(self, config: Mapping[str, Any]) -> bool:
        """Whether the config, as `Architecture.read_config` gives it, can be converted."""
        plain = config.get(self.same_as) if self.same_as else self.plain
        return config.get(self.key, plain) in (plain, None)


@dataclass(frozen=True)
class Architecture:
    """Names and habits of one family; `{i}` in a name is the layer's index.

    A new family is a new value of this class in a file of its own and one line in core/arch/__init__.py.
    """

    family: str
    model_types: tuple[str, ...]
    layer: str = "model.layers.{i}"
    attention: str = "model.layers.{i}.self_attn"
    query: str = "q_proj"
    key: str = "k_proj"
    value: str = "v_proj"
    output: str = "o_proj"
    # in the place of query, key and value
    fused: Fused | None = None
    qk_norm: QKNorm | None = None
    # weights are stored (inputs, outputs), as transformers' Conv1D has them
    has_transposed_weights: bool = False
    embedding: str = "model.embed_tokens"
    # learned positions: position p is row p + position_offset of this table; "" where there is none
    positions: str = ""
    position_offset: int = 0
    final_norm: str = "model.norm"
    head: str = "lm_head"
    # the rotary embedding; "" where nothing rotates
    rotary: str = "model.rotary_emb"
    # Gemma 3: one table for windows, one for full attention; config.json has rope_parameters for each
    has_rotary_by_type: bool = False
    # config keys of what attention's scores, and the logits, are bounded by; "" where nothing is
    softcap: str = ""
    final_softcap: str = ""
    # whether config.json's partial_rotary_factor counts
    is_partly_rotary: bool = False
    rope_types: tuple[str, ...] = FIXED_ROPE
    # (gate or "", up, down) inside a layer; None where they are fused or a mixture of experts
    mlp: tuple[str, str, str] | None = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    experts: Experts | None = None
    # a vision tower feeds the language model; config.json has the latter's under text_config
    sees_images: bool = False
    # the modules that make hidden states of images
    image_modules: tuple[str, ...] = ()
    # the config key that says how much of the attention weights is dropped in training
    dropout: str = "attention_dropout"
    # (name used here, name in config.json), and what is meant when config.json leaves a key out
    config_names: tuple[tuple[str, str], ...] = ()
    config_defaults: tuple[tuple[str, object], ...] = ()
    refused: tuple[Refused, ...] = (Refused("sliding_window", None), Refused("use_sliding_window", False))
    # how files of older programs call tensors: (beginning there, beginning here), what is called otherwise
    # inside a name, and endings of buffers that are no weights
    old_names: tuple[tuple[str, str], ...] = ()
    old_parts: tuple[tuple[str, str], ...] = ()
    buffers: tuple[str, ...] = ()

    def tensor(self, layer: int, projection: str, kind: str = "weight") -> str:
        """Checkpoint name of an attention tensor: tensor(3, "q_proj") -> "….3.self_attn.q_proj.weight"."""
        return f"{self.attention.format(i=layer)}.{projection}.{kind}"

    @property
    def projections(self) -> tuple[str, ...]:
        """The modules that give queries, keys and values."""
        return (self.query, self.key, self.value) if self.fused is None else (self.fused.projection,)

    @property
    def module_in_layer(self) -> str:
        """The attention's path inside its layer: "self_attn"."""
        return self.attention.removeprefix(self.layer + ".")

    def read_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The keys of config.json under the names used here, what it leaves out filled in."""
        config = config["text_config"] if self.sees_images else config
        found = {**dict(self.config_defaults), **config}
        for name, theirs in self.config_names:
            if theirs in config:
                found[name] = config[theirs]
        return found

    def current_name(self, stored: str) -> str | None:
        """The name of a stored tensor in the model of today's transformers; None for what is no weight."""
        if stored.endswith(self.buffers):
            return None
        for old, new in self.old_names:
            if stored.startswith(old):
                return new + stored.removeprefix(old)
        for old, new in self.old_parts:
            stored = stored.replace(old, new)
        return stored
