# SPDX-License-Identifier: Apache-2.0
"""The original model without its weights: one decoder layer at a time is filled and run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.activations import ACT2FN

from core.arch import Architecture
from core.calibrate.picture_ids import FIRST_ROW, is_picture
from core.calibrate.states import StateFiles
from core.errors import ModelError
from core.model_config import dimensions, read_config
from core.process import return_layer_memory
from core.rope.score_rule import ScoreRule
from core.weights.experts import stacked, stacked_infos
from core.weights.head import Head
from core.weights.index import TensorInfo
from core.weights.tensors import TensorSource


def check_weights(folder: Path, family: Architecture, stored: Mapping[str, TensorInfo]) -> None:
    """Raise ModelError unless the checkpoint has exactly the tensors of the model in config.json."""
    model, tensors = _empty_model(folder, family), stacked_infos(stored, family.experts)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tied = {name for name in model.all_tied_weights_keys if name not in tensors}
    for name in sorted(wanted.keys() | tensors.keys()):
        found = tensors[name].shape if name in tensors else "missing"
        expected = wanted.get(name, "no such tensor")
        if found != expected and name not in tied:
            raise ModelError(
                f"{name} is {found} in the files, config.json says {expected}",
                hint="fetch the model again: its files do not belong together",
                field="model",
            )


def _empty_model(folder: Path, family: Architecture) -> Any:
    """The original model on the meta device."""
    with torch.device("meta"):
        return _model_of(folder, family)


def _model_of(folder: Path, family: Architecture) -> Any:
    """The original model on whatever device the context says."""
    try:
        config: Any = AutoConfig.for_model(**read_config(folder))
        # one implementation for every device, so that calibration does not depend on what is installed; SDPA
        # knows no soft-cap
        config._attn_implementation = "eager" if family.softcap else "sdpa"
        kind: Any = AutoModelForImageTextToText if family.sees_images else AutoModelForCausalLM
        return kind.from_config(config)
    except (ValueError, KeyError, TypeError, AttributeError, StrictDataclassError) as error:
        raise ModelError(
            f"transformers cannot build the model of config.json: {error}",
            hint="fetch the model again, or correct its config.json",
            field="model",
        ) from error


def seeing_model(folder: Path, family: Architecture, device: torch.device) -> Any:
    """The original with the weights of what sees images, float32 on `device`; all else stays empty."""
    # towers number their patches in buffers that no checkpoint has: those are computed, not loaded
    with init_empty_weights(include_buffers=False):
        model = _model_of(folder, family)
    source = TensorSource(folder, family)
    for path in family.image_modules:
        tensors = {name: value.float() for name, value in source.read_prefix(path + ".").items()}
        fill(model.get_submodule(path), tensors, device).to(device)
    return model.model


class Skeleton:
    """The base architecture on the meta device; `layer(i)` gives layer i with its weights, ready to run.

    `pictures` has the rows that ids of images stand for, see core/calibrate/picture_ids.py.
    """

    def __init__(
        self,
        folder: Path,
        family: Architecture,
        device: torch.device,
        pictures: StateFiles | None = None,
    ) -> None:
        self._pictures = pictures
        self._model: Any = _empty_model(folder, family)
        self.config: Any = self._model.config.get_text_config(decoder=True)
        self._source = TensorSource(folder, family)
        self._family = family
        self._said = self.config.to_dict()
        self._size = dimensions(family.read_config(read_config(folder)), family)
        self.device = device
        # built outside the meta context: its frequencies are computed, not loaded
        self._rotary: Any = None
        if family.rotary:
            self._rotary = type(self._model.get_submodule(family.rotary))(self.config).to(device)

    def inv_freq(self, index: int) -> Tensor:
        """Frequencies (d_h/2,) of layer `index`, float32, after the model's own rope scaling.

        0 for pairs that do not turn.
        """
        found = torch.zeros(self._size.head_dim // 2)
        if self._rotary is not None:
            own = f"{self._layer_type(index)}_inv_freq" if self._family.has_rotary_by_type else "inv_freq"
            found[: self._size.rotary_dim // 2] = getattr(self._rotary, own).cpu().float()
        return found

    def turning(self) -> list[float]:
        """The frequencies of the pairs that turn as pictures show them: those of layer 0."""
        return self.inv_freq(0)[: self._size.rotary_dim // 2].tolist()

    def embedding(self, dtype: torch.dtype = torch.float32) -> Callable[[Tensor], Tensor]:
        """What turns token ids (…, n) from position 0 on into inputs of the first layer (…, n, d)."""
        table = self.embeddings()
        # Gemma scales embeddings, in the dtype it runs in
        scale = getattr(self._model.get_submodule(self._family.embedding), "scalar_embed_scale", 1.0)
        positions, offset = None, self._family.position_offset
        if self._family.positions:
            positions = self._source.read(f"{self._family.positions}.weight")[offset:].to(dtype)

        def embed(tokens: Tensor) -> Tensor:
            seen = is_picture(tokens)
            words = tokens.masked_fill(seen, 0)
            found = nn.functional.embedding(words, table).to(dtype) * torch.tensor(scale, dtype=dtype)
            if seen.any():
                found[seen] = self._rows(tokens[seen] - FIRST_ROW).to(dtype)
            return found if positions is None else found + positions[: tokens.shape[-1]]

        return embed

    def _rows(self, rows: Tensor) -> Tensor:
        """What stands for parts of images, (n, d); those of one window lie together in the file."""
        if self._pictures is None:
            raise ModelError("the images of the calibration are missing", hint="run the conversion again")
        first, last = int(rows.min()), int(rows.max())
        return self._pictures.read(0, slice(first, last + 1))[rows - first, 0]

    def embed(self, tokens: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Token ids (…, n) -> inputs of the first layer (…, n, d) in `dtype`."""
        return self.embedding(dtype)(tokens)

    def embeddings(self) -> Tensor:
        """The embedding table (vocabulary, d), as stored."""
        return self._source.read(f"{self._family.embedding}.weight")

    def final_norm(self) -> nn.Module:
        """The norm after the last layer in float32 on the device."""
        prefix = self._family.final_norm
        tensors = {name: value.float() for name, value in self._source.read_prefix(prefix + ".").items()}
        return fill(self._model.get_submodule(prefix), tensors, self.device)

    def head(self, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> Head:
        """What makes logits, in `dtype`, on the skeleton's device unless told; a tied matrix embeds, too."""
        name = f"{self._family.head}.weight"
        stored = self._source.read(name) if name in self._source else self.embeddings()
        return Head(stored.to(device or self.device, dtype), self._said.get(self._family.final_softcap))

    def layer(self, index: int) -> nn.Module:
        """Decoder layer `index` in float32 on the device; drop it before asking for the next."""
        prefix = self._family.layer.format(i=index) + "."
        tensors = stacked(self._source.read_prefix(prefix), self._family.experts)
        module: nn.Module = self._model.get_submodule(prefix[:-1])
        return fill(module, {name: tensor.float() for name, tensor in tensors.items()}, self.device)

    def activation(self) -> Callable[[Tensor], Tensor]:
        """What stands between the projections of the MLP."""
        name = getattr(self.config, "hidden_act", None) or getattr(self.config, "activation_function", None)
        found: Callable[[Tensor], Tensor] = ACT2FN[name or self.config.hidden_activation]
        return found

    def empty(self, index: int) -> None:
        """Release the weights of layer `index`."""
        self._model.get_submodule(self._family.layer.format(i=index)).to("meta")
        return_layer_memory()

    def attention(self, index: int) -> nn.Module:
        """The attention inside decoder layer `index`."""
        module: nn.Module = self._model.get_submodule(self._family.attention.format(i=index))
        return module

    def rule(self, index: int) -> ScoreRule:
        """How layer `index` makes attention weights of queries and keys."""
        attention: Any = self.attention(index)
        window = self._said.get("sliding_window") if self._layer_type(index) == "sliding_attention" else None
        return ScoreRule(float(attention.scaling), window, self._said.get(self._family.softcap))

    def _layer_type(self, index: int) -> str:
        """What kind of attention layer `index` has; families without kinds use their window everywhere."""
        types = self._said.get("layer_types")
        return str(types[index]) if types else "sliding_attention"

    def rotation(self, index: int, context: int) -> tuple[Tensor, Tensor]:
        """(cos, sin) of layer `index`, each (context, d_h) in the canonical layout, of positions from 0 on.

        A scaling of both (yarn) is included.
        """
        turning = self._size.rotary_dim // 2
        cos = torch.ones(context, self._size.head_dim // 2, device=self.device)
        sin = torch.zeros_like(cos)
        if self._rotary is not None:
            found = self._turned(index, cos, torch.arange(context, device=self.device)[None])
            cos[:, :turning], sin[:, :turning] = (part[0, :, :turning] for part in found)
        return cos.repeat(1, 2), sin.repeat(1, 2)

    def run(self, index: int, layer: nn.Module, hidden: Tensor) -> Tensor:
        """`layer`, in the place of layer `index`, on hidden (batch, tokens, d) from position 0."""
        positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
        rotation = None if self._rotary is None else self._turned(index, hidden, positions)
        output: Tensor = layer(
            hidden,
            attention_mask=self._mask(index, hidden),
            position_ids=positions,
            position_embeddings=rotation,
        )
        return output

    def _turned(self, index: int, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin of layer `index` as the original makes them."""
        kind = (self._layer_type(index),) if self._family.has_rotary_by_type else ()
        cos, sin = self._rotary(hidden, positions, *kind)
        return cos, sin

    def _mask(self, index: int, hidden: Tensor) -> Tensor | None:
        """None where attention is plainly causal, else which keys a query sees: (1, 1, tokens, tokens).

        Eager attention has no causality of its own, and masks that are added to the scores.
        """
        rule, tokens = self.rule(index), hidden.shape[1]
        is_eager = rule.softcap is not None
        if not is_eager and (rule.window is None or tokens <= rule.window):
            return None
        unseen = rule.unseen(0, hidden.new_empty(tokens, tokens))[None, None]
        if not is_eager:
            return ~unseen
        lowest = torch.finfo(hidden.dtype).min
        return torch.zeros_like(unseen, dtype=hidden.dtype).masked_fill(unseen, lowest)


def fill(module: nn.Module, tensors: Mapping[str, Tensor], device: torch.device) -> nn.Module:
    """Give a meta module its weights; missing or surplus names raise RuntimeError."""
    placed = {name: tensor.to(device) for name, tensor in tensors.items()}
    module.load_state_dict(placed, strict=True, assign=True)
    return module.eval()
