# SPDX-License-Identifier: Apache-2.0
"""refit_output: fit W_O anew to what attention over the smaller cache hands it. Closed form, no training.

The heads z of the converted attention differ from the original's. On the inputs the original layer sees,
W_O' = argmin sum |y - W z|^2 + ridge |W - W_O|^2 with y the original attention's output and W_O where the
fit starts from; so nothing changes where nothing was lost. Only sums over tokens and one layer are in memory.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.arch import Architecture
from core.calibrate.picture_ids import token_weights
from core.calibrate.states import StateFiles, in_batches
from core.convert import LatentLayer
from core.modeling import MLAConfig, class_of
from core.weights.skeleton import Skeleton, fill

# sums over many tokens; the products of one batch are float32
WORK = torch.float64
# relative to the mean square of a head's output: what the text has little of stays as it was
RIDGE = 0.1
# Heads look at the first token when they have nothing to look at, and it looks at itself alone. With a first
# token in 512 the fit spoils some of them, and all that follows: 1 of 14 windows of the demo at keep 0.1875
# went from x2.2 to x4.8 perplexity; with one in 128 it went to x1.7, and the others gained as much.
REFIT_CONTEXT = 128

_WEIGHT, _BIAS = "o_proj.weight", "o_proj.bias"


def refit_windows(windows: Tensor, tokens: int) -> Tensor:
    """The first `tokens` of calibration windows (n, context), rounded up to whole ones, and cut."""
    context = min(REFIT_CONTEXT, windows.shape[1])
    taken = windows[: math.ceil(tokens / windows.shape[1])]
    return taken[:, : windows.shape[1] // context * context].reshape(-1, context)


class OutputRefit:
    """Walks token ids `windows` (n, context) through the original model beside converted attention layers.

    `configs` name the conversions that are refitted side by side. Hidden states are kept in `folder`, so a
    resumed run goes on with the layer it was at.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        family: Architecture,
        configs: Mapping[str, MLAConfig],
        windows: Tensor,
        folder: Path,
        *,
        image_weight: float = 1.0,
        sees_mlp: bool = False,
    ) -> None:
        """image_weight: how much a token of an image counts; sees_mlp: keep the inputs of every MLP in
        `mlp_inputs`, until the next layer is run."""
        folder.mkdir(parents=True, exist_ok=True)
        self._skeleton = skeleton
        self._family = family
        self._windows = windows
        self._weights = token_weights(windows, image_weight)
        self._reads_mlp = family.mlp[1] if sees_mlp and family.mlp else None
        # of the original layer that was run last: (tokens, d) float32 on the CPU
        self.mlp_inputs: Tensor | None = None
        self._states = StateFiles(folder, "refit", (*windows.shape, skeleton.config.hidden_size))
        self._models: dict[str, Any] = {}
        for name, config in configs.items():
            with torch.device("meta"):
                self._models[name] = class_of(config)(config).float()

    @torch.no_grad()
    def advance(self, index: int, latent: Mapping[str, LatentLayer]) -> dict[str, LatentLayer]:
        """Layer `index` of every conversion with W_O refitted, and its bias where it has one."""
        self._reach(index)
        path = self._family.attention.format(i=index)
        fits = {}
        for name, model in self._models.items():
            tensors = {
                key: value.float() if value.is_floating_point() else value
                for key, value in latent[name].tensors.items()
            }
            module = fill(model.get_submodule(path), tensors, self._skeleton.device)
            fits[name] = _Fit(module, latent[name])
        self._run(index, fits)
        found = {name: fit.solved() for name, fit in fits.items()}
        for model in self._models.values():
            model.get_submodule(path).to("meta")
        return found

    def _reach(self, index: int) -> None:
        """Have the states at the input of layer `index`; those before are not needed any more."""
        if not self._states.has(index):
            with self._states.writing(0) as append:
                for batch in in_batches(*self._windows.shape):
                    append(self._skeleton.embed(self._windows[batch]))
            for before in range(index):
                self._run(before, {})
        for before in range(index):
            self._states.keep_first(before, 0)

    def _run(self, index: int, fits: Mapping[str, "_Fit"]) -> None:
        """Run original layer `index` over all windows, showing its attention to the fits."""
        layer = self._skeleton.layer(index)
        positions = torch.arange(self._windows.shape[1], device=self._skeleton.device)[None]
        weights: list[Tensor | None] = []

        def show(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
            del module
            hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            for fit in fits.values():
                fit.add(hidden, positions, kwargs["attention_mask"], output[0], weights[-1])

        hooks = [self._skeleton.attention(index).register_forward_hook(show, with_kwargs=True)]
        seen: list[Tensor] = []
        if self._reads_mlp and fits:
            reader = layer.get_submodule(self._reads_mlp)
            hooks.append(
                reader.register_forward_pre_hook(
                    lambda module, given: seen.append(given[0].flatten(0, -2).cpu())
                )
            )
        with self._states.writing(index + 1) as append:
            for batch in in_batches(*self._windows.shape):
                weights.append(None if self._weights is None else self._weights[batch])
                states = self._states.read(index, batch).to(self._skeleton.device)
                append(self._skeleton.run(index, layer, states))
        for hook in hooks:
            hook.remove()
        self.mlp_inputs = torch.cat(seen).flatten(0, -2) if seen else None
        self._skeleton.empty(index)


class _Fit:
    """One layer's regression: heads z (tokens, n_h*d_h) against what W_O z misses of the original output."""

    def __init__(self, attention: nn.Module, latent: LatentLayer) -> None:
        self._attention = attention
        self._latent = latent
        heads, width = latent.tensors[_WEIGHT].shape[1], latent.tensors[_WEIGHT].shape[0]
        self._square = torch.zeros(heads, heads, dtype=WORK)
        self._cross = torch.zeros(heads, width, dtype=WORK)
        self._heads, self._missed = torch.zeros(heads, dtype=WORK), torch.zeros(width, dtype=WORK)
        self._tokens = 0.0

    def add(
        self,
        hidden: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        expected: Tensor,
        weights: Tensor | None = None,
    ) -> None:
        """hidden and expected: (batch, tokens, d), input and output of the original attention; weights
        (batch, tokens): how much each token counts, None for all alike."""
        seen: list[Tensor] = []
        hook = self._attention.get_submodule("o_proj").register_forward_hook(
            lambda module, inputs, output: seen.append(inputs[0].flatten(0, -2))
        )
        found = self._attention(hidden, positions, mask)[0]
        hook.remove()
        heads, missed = seen[0], (expected - found).flatten(0, -2)
        weighed, count = heads, float(len(heads))
        if weights is not None:
            counts = weights.flatten()[:, None].to(heads)
            weighed, missed, count = counts * heads, counts * missed, float(counts.sum())
        self._square += (heads.T @ weighed).cpu().to(WORK)
        self._cross += (heads.T @ missed).cpu().to(WORK)
        self._heads += weighed.sum(dim=0).cpu().to(WORK)
        self._missed += missed.sum(dim=0).cpu().to(WORK)
        self._tokens += count

    def solved(self) -> LatentLayer:
        """The layer with the W_O, and the bias, that miss least."""
        square, cross = self._square / self._tokens, self._cross / self._tokens
        heads, missed = self._heads / self._tokens, self._missed / self._tokens
        tensors = dict(self._latent.tensors)
        has_bias = _BIAS in tensors
        if has_bias:
            # with a free bias the best W is that of the centred sums
            square = square - heads[:, None] * heads
            cross = cross - heads[:, None] * missed
        ridge = RIDGE * square.diagonal().mean().clamp_min(torch.finfo(WORK).tiny)
        change = torch.linalg.solve(square + ridge * torch.eye(len(square), dtype=WORK), cross).T
        tensors[_WEIGHT] = tensors[_WEIGHT] + change
        if has_bias:
            tensors[_BIAS] = tensors[_BIAS] + missed - change @ heads
        return replace(self._latent, tensors=tensors)
