# SPDX-License-Identifier: Apache-2.0
"""The original model, asked what it says of windows."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.evaluate import load_model
from core.heal.language_model import LanguageModel
from core.heal.layers import LayerTap
from core.heal.precision import freeze_in
from core.heal.targets import Targets, top_k

# positions whose logits exist at a time, in float32
ROWS = 128


class Teacher:
    """The model in memory; drop it and its memory is free."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        model: Any = load_model(folder, dtype=torch.float32, device=device)
        model.requires_grad_(False)
        self.model = model
        self._language = LanguageModel(model, dtype)
        freeze_in(model, dtype)
        self._device = device
        self.taps: LayerTap | None = None

    @torch.no_grad()
    def targets(self, ids: Tensor, k: int, temperature: float) -> Targets:
        """What it says of windows (n, t); k 0 is the whole vocabulary."""
        hidden, head = self._language.hidden(ids.to(self._device)), self._language.head()
        rows: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        flat = hidden.flatten(0, 1)
        following = nn.functional.pad(ids[:, 1:].long(), (0, 1)).flatten().to(self._device)
        for start in range(0, len(flat), ROWS):
            part = slice(start, start + ROWS)
            logits = head.logits(flat[part].to(head.weight.dtype)).float()
            loss = nn.functional.cross_entropy(logits, following[part], reduction="none")
            rows.append((*top_k(logits, k or logits.shape[-1], temperature), loss))
        index, log_p, log_rest, loss = (
            torch.cat(one).unflatten(0, tuple(ids.shape)) for one in zip(*rows, strict=True)
        )
        return Targets(index, log_p, log_rest, loss[:, :-1])

    @torch.no_grad()
    def run(self, ids: Tensor) -> None:
        """A forward pass for what the taps see."""
        self._language.hidden(ids.to(self._device))
