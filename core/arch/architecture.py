# SPDX-License-Identifier: Apache-2.0
"""What the engine needs to know of a model family, as data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """Names and habits of one family; `{i}` in a name is the layer's index.

    A new family is a new value of this class in a file of its own and one line in core/arch/__init__.py.
    """

    family: str
    model_types: tuple[str, ...]
    attention: str = "model.layers.{i}.self_attn"
    query: str = "q_proj"
    key: str = "k_proj"
    value: str = "v_proj"
    output: str = "o_proj"
    layer: str = "model.layers.{i}"
    embedding: str = "model.embed_tokens"
    final_norm: str = "model.norm"
    # (gate or "", up, down) inside a layer; None where they are fused or a mixture of experts
    mlp: tuple[str, str, str] | None = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    # rotations whose frequencies are fixed when the model is loaded; the others change with the context
    # length (dynamic, longrope) and cannot be written down as one inv_freq per layer
    rope_types: tuple[str, ...] = ("default", "linear", "llama3", "yarn")
    # config keys that change the attention arithmetic; any value but the one given here is refused
    plain_only: tuple[tuple[str, object], ...] = (("sliding_window", None), ("use_sliding_window", False))

    def tensor(self, layer: int, projection: str, kind: str = "weight") -> str:
        """Checkpoint name of an attention tensor: tensor(3, "q_proj") -> "….3.self_attn.q_proj.weight"."""
        return f"{self.attention.format(i=layer)}.{projection}.{kind}"
