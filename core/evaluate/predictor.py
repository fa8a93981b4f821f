# SPDX-License-Identifier: Apache-2.0
"""What predicts the next token, in two steps: hidden states of a window, then logits of some positions.

The logits of 8,192 positions over 49,152 words are 1.6 GB in float32; the hidden states of SmolLM2 are 19 MB.
"""

from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from core.errors import ModelError
from core.evaluate.kv_memory import is_quantised, new_cache

_CHECKED_TOKENS = 8
# tokens a model with a quantised cache reads at a time: new ones are read exactly, so a whole window at once
# would measure the model without its cache
_PIECE = 64
# a head that does more than a product and a soft-cap (say, a scale) is off by percents, bfloat16 by 0.4 %
_TOLERANCE = 1e-2


class Predictor(Protocol):
    """A language model, or a record of one."""

    def hidden(self, window: Tensor) -> Tensor:
        """Final hidden states (context, width) of a window (context,)."""

    def logits(self, hidden: Tensor) -> Tensor:
        """(positions, width) -> (positions, vocabulary)."""


class WholeModel:
    """A model in memory, split at its head; what it keeps in few bits is read from its cache."""

    def __init__(self, model: Any) -> None:
        """Raises ModelError when logits are more than the head, and a soft-cap, on hidden states."""
        self._decoder = model.get_decoder()
        self._head = model.get_output_embeddings()
        self._device = model.device
        self._new_cache = partial(new_cache, model) if is_quantised(model.config) else None
        self._softcap: float | None = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
        self._check(model)

    @torch.no_grad()
    def hidden(self, window: Tensor) -> Tensor:
        ids = window[None].to(self._device)
        if self._new_cache is None:
            states: Tensor = self._decoder(ids, use_cache=False).last_hidden_state
            return states[0]
        cache = self._new_cache()
        pieces = [
            self._decoder(piece, past_key_values=cache, use_cache=True).last_hidden_state[0]
            for piece in ids.split(_PIECE, dim=1)
        ]
        return torch.cat(pieces)

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        found: Tensor = self._head(hidden)
        return found if self._softcap is None else self._softcap * torch.tanh(found / self._softcap)

    @torch.no_grad()
    def _check(self, model: Any) -> None:
        window = torch.arange(_CHECKED_TOKENS) % model.config.get_text_config().vocab_size
        own = model(window[None].to(self._device), use_cache=False).logits[0]
        ours = self.logits(self.hidden(window))
        # a broken model gives NaN on both sides: that is for the figures to show
        if bool(((own - ours).abs().max() > _TOLERANCE * own.abs().max()).item()):
            raise ModelError(
                "this model changes its logits after the output head and cannot be measured yet",
                hint="most models, Llama's among them, have a plain head",
                field="model",
            )
