# SPDX-License-Identifier: Apache-2.0
"""Try candidates of a conversion on held-back text, a layer at a time, without writing anything.

The original and every candidate walk through the model side by side; only their hidden states and one layer
are in memory. What comes out is KL(original || candidate), the figure a conversion is judged by.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from core.arch import Architecture
from core.calibrate.picture_ids import predicts_text
from core.convert import LatentLayer
from core.modeling import MLAConfig, class_of
from core.weights.skeleton import Skeleton, fill

# rows of logits held at once for the original and each candidate: 67 MB each at a vocabulary of 131,072
HEAD_ROWS = 128


@dataclass(frozen=True)
class TrialScore:
    """divergence: KL(original || candidate) in nats per token; perplexity_ratio: to the original's."""

    divergence: float
    perplexity_ratio: float


class Trial:
    """Hidden states (windows, context, d) of the original and of every candidate, in float32."""

    def __init__(
        self,
        skeleton: Skeleton,
        family: Architecture,
        configs: Mapping[str, MLAConfig],
        windows: Tensor,
    ) -> None:
        self._skeleton = skeleton
        self._windows = windows
        self._family = family
        self._models: dict[str, Any] = {}
        for name, config in configs.items():
            with torch.device("meta"):
                self._models[name] = class_of(config)(config).float()
        self._original = skeleton.embed(windows).to(skeleton.device)
        self._hidden = {name: self._original for name in configs}

    @torch.no_grad()
    def advance(self, index: int, latent: Mapping[str, LatentLayer]) -> None:
        """Run layer `index`: the original one, and each candidate's."""
        original = self._skeleton.layer(index)
        path, attention = self._family.layer.format(i=index), self._family.module_in_layer + "."
        others = {
            name: value for name, value in original.state_dict().items() if not name.startswith(attention)
        }
        for name, model in self._models.items():
            layer, factored = latent[name], model.config.factored(index)
            kept = {key: value for key, value in others.items() if key.rpartition(".")[0] not in factored}
            own = {attention + key: value for key, value in layer.tensors.items()} | layer.rest
            own = {key: value.float() if value.is_floating_point() else value for key, value in own.items()}
            module: nn.Module = fill(model.get_submodule(path), kept | own, self._skeleton.device)
            self._hidden[name] = self._through(index, module, self._hidden[name])
            module.to("meta")
        self._original = self._through(index, original, self._original)
        self._skeleton.empty(index)

    def _through(self, index: int, layer: nn.Module, hidden: Tensor) -> Tensor:
        """One window at a time: a candidate's attention may be wider than the original's."""
        return torch.cat([self._skeleton.run(index, layer, window[None]) for window in hidden])

    def divergences(self) -> dict[str, float]:
        """KL(original || candidate), mean nats per token, once all layers have run."""
        return {name: found.divergence for name, found in self.scores().items()}

    @torch.no_grad()
    def scores(self) -> dict[str, TrialScore]:
        """What every candidate lost on the windows, once all layers have run."""
        norm, head = self._skeleton.final_norm(), self._skeleton.head()
        total = {name: [0.0, 0.0] for name in self._hidden}
        # before a token of an image nothing is predicted
        kept = predicts_text(self._windows)
        rows, others = self._original[kept], {name: one[kept] for name, one in self._hidden.items()}
        # the last token of a window has no next one
        following = self._windows.roll(-1, dims=1)[kept].to(rows.device)
        has_next = torch.ones_like(self._windows, dtype=torch.bool)
        has_next[:, -1] = False
        counted = has_next[kept].to(rows.device)
        following[~counted] = 0
        for first in range(0, len(rows), HEAD_ROWS):
            part = slice(first, first + HEAD_ROWS)
            expected = head.logits(norm(rows[part])).log_softmax(dim=-1)
            for name, hidden in others.items():
                found = head.logits(norm(hidden[part])).log_softmax(dim=-1)
                missed = (expected - found).gather(1, following[part, None]).squeeze(1)
                total[name][0] += float((expected.exp() * (expected - found)).sum())
                total[name][1] += float(missed[counted[part]].sum())
        return {
            name: TrialScore(divergence / len(rows), math.exp(missed / int(counted.sum())))
            for name, (divergence, missed) in total.items()
        }
