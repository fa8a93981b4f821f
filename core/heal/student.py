# SPDX-License-Identifier: Apache-2.0
"""The converted model with its loss: one module, so that every way to distribute a module works."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from core.heal.divergence import HeadLoss, Mixture, Wanted
from core.heal.language_model import LanguageModel
from core.heal.layers import LayerTap, distance
from core.heal.spec import Healing
from core.heal.targets import Targets


@dataclass(frozen=True)
class Scores:
    """Of some windows: `loss` to learn from; KL and cross-entropy per token in nats."""

    loss: Tensor
    kl: Tensor
    text: Tensor


class Student(nn.Module):
    """`forward` gives the loss of some windows against what the teacher says of them."""

    def __init__(
        self, model: Any, healing: Healing, dtype: torch.dtype, taps: LayerTap | None = None
    ) -> None:
        super().__init__()
        self.language = LanguageModel(model, dtype)
        self._mixture = Mixture(healing.cross_entropy, healing.temperature)
        self._weights = healing.hidden_loss, healing.attention_loss
        self._taps = taps
        if taps is not None:
            taps.take()  # building looks at the model once

    def forward(self, ids: Tensor, targets: Targets, seen: list[list[Tensor]] | None = None) -> Scores:
        """ids: (n, t); `seen` are the teacher's hidden states and attention outputs, where they count."""
        hidden = self.language.hidden(ids)
        head = self.language.head()
        wanted = Wanted(
            targets.index.flatten(0, 1),
            targets.log_p.flatten(0, 1),
            targets.log_rest.flatten(),
            nn.functional.pad(ids[:, 1:].long(), (0, 1), value=-1).flatten(),
        )
        loss, kl, text = HeadLoss.apply(hidden.flatten(0, 1), head.weight, head, wanted, self._mixture)
        loss = loss / ids.numel()
        given = self._taps.take() if self._taps is not None else None
        if given is not None and seen is not None:
            for weight, own, others in zip(self._weights, given, seen, strict=True):
                if weight:
                    loss = loss + weight * distance(own, others)
        return Scores(loss, kl / ids.numel(), text / (ids.numel() - len(ids)))
