# SPDX-License-Identifier: Apache-2.0
"""Choose the next token. Two models with equal seeds draw the same noise, so they differ only where the
models do: each token is the largest of probability / noise, with one exponential number per word and step
(the Gumbel-max trick), not an inverse of each model's own cumulative sum.
"""

import torch
from torch import Tensor

# probabilities of bfloat16 logits would tie; the sum over a vocabulary needs more than their 8 bits
WORK = torch.float32


class Chooser:
    """Temperature, nucleus and seed of one answer."""

    def __init__(self, temperature: float, top_p: float, seed: int) -> None:
        self._temperature = temperature
        self._top_p = top_p
        # on the CPU whatever the model runs on, so that a seed means the same everywhere
        self._noise = torch.Generator().manual_seed(seed)

    def choose(self, logits: Tensor) -> int:
        """The next token of logits (vocabulary,)."""
        logits = logits.to("cpu", WORK)
        if self._temperature == 0:
            return int(logits.argmax())
        chances = (logits / self._temperature).softmax(dim=-1)
        noise = torch.empty_like(chances).exponential_(generator=self._noise)
        if self._top_p < 1:
            chances = self._nucleus(chances)
        return int((chances / noise).argmax())

    def _nucleus(self, chances: Tensor) -> Tensor:
        """Only the likeliest tokens whose chances add up to top_p; the likeliest one always stays."""
        sorted_chances, order = chances.sort(descending=True)
        before = sorted_chances.cumsum(dim=-1) - sorted_chances
        return chances.index_fill(0, order[before >= self._top_p], 0.0)
