# SPDX-License-Identifier: Apache-2.0
"""Run a few tokens through the converted layers while they are still in memory.

The logits are what the exported folder must give back in a fresh process. Only one layer is ever held: the
hidden states of the probe are kept in a small file per layer, so that a resumed conversion goes on with them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from core.arch import Architecture
from core.calibrate.picture_ids import is_picture, seen_from
from core.modeling import MLAConfig, class_of
from core.weights.experts import stacked
from core.weights.skeleton import Skeleton, fill
from core.weights.tensors import TORCH_DTYPES, TensorSource

PROBE_TOKENS = 48


class Probe:
    """Hidden states (1, tokens, d) of the converted model, advanced layer by layer in the export's dtype."""

    def __init__(
        self, folder: Path, config: MLAConfig, skeleton: Skeleton, family: Architecture, dtype: str
    ) -> None:
        with torch.device("meta"):
            model: Any = class_of(config)(config)
        self._model = model.to(TORCH_DTYPES[dtype])
        self._folder = folder
        self._skeleton = skeleton
        self._family = family
        self._dtype = TORCH_DTYPES[dtype]
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, tokens: Tensor) -> None:
        """Embed some of `tokens` (n,) unless an earlier run did; with images in them, parts of both."""
        if not self._file(0).is_file():
            chosen = seen_from(tokens, PROBE_TOKENS)
            hidden = self._skeleton.embed(chosen[None], self._dtype)
            words = tokens[~is_picture(tokens)][None, :PROBE_TOKENS]
            # a fresh process cannot look up an image: it is given what stands for it
            given = {"embeds": hidden} if is_picture(chosen).any() else {}
            self._save(0, {"hidden": hidden.clone(), "tokens": words} | given)

    @torch.no_grad()
    def advance(self, index: int, tensors: Mapping[str, Tensor]) -> None:
        """Run converted layer `index`; `tensors` are its weights, names relative to the layer.

        Always on the CPU and in one dtype, frequencies excepted: that is how the folder is loaded to be
        verified, also when norms are stored in another dtype than the rest.
        """
        state = load_file(self._file(index))
        module = self._model.get_submodule(self._family.layer.format(i=index))
        cast = {
            name: tensor
            if name.endswith("inv_freq") or not tensor.is_floating_point()
            else tensor.to(self._dtype)
            for name, tensor in tensors.items()
        }
        layer = fill(module, stacked(cast, self._family.experts), torch.device("cpu"))
        hidden = self._skeleton.run(index, layer, state["hidden"])
        module.to("meta")
        self._save(index + 1, state | {"hidden": hidden})

    @torch.no_grad()
    def finish(self, layers: int, source: TensorSource) -> Path:
        """Apply the final norm and head; returns the file with `logits` (float32) and what they are of.

        `embeds` where images were among the tokens, else `tokens`, which a sample starts with in any case.
        """
        state = load_file(self._file(layers))
        prefix = self._family.final_norm
        weights = {n: t.to(self._dtype) for n, t in source.read_prefix(prefix + ".").items()}
        norm = fill(self._model.get_submodule(prefix), weights, torch.device("cpu"))
        head = self._skeleton.head(self._dtype, torch.device("cpu"))
        logits = head.logits(norm(state["hidden"])).float()
        path = self._folder / "expected.safetensors"
        del state["hidden"]
        path.write_bytes(save(state | {"logits": logits}))
        return path

    def _save(self, index: int, tensors: dict[str, Tensor]) -> None:
        partial = self._file(index).with_suffix(".partial")
        partial.write_bytes(save({name: tensor.contiguous() for name, tensor in tensors.items()}))
        partial.rename(self._file(index))

    def _file(self, index: int) -> Path:
        return self._folder / f"probe-{index:05d}.safetensors"
