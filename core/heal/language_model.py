# SPDX-License-Identifier: Apache-2.0
"""A whole model split where healing needs it: embeddings, decoder, head."""

from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ModelError
from core.evaluate import WholeModel
from core.weights.head import Head


class LanguageModel(nn.Module):
    """Token ids to normed hidden states: products in `dtype`, everything between layers in float32."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        """Raises ModelError for a head that does more than a product and a soft-cap."""
        super().__init__()
        WholeModel(model)
        self.model = model
        self._dtype = dtype
        output = model.get_output_embeddings()
        if output.bias is not None:
            raise ModelError("a model whose output head has a bias cannot be healed yet", field="model")
        self._softcap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
        # a head that does not learn is cast once; beside the table of embeddings, which it may be tied to
        self._frozen = None if output.weight.requires_grad else output.weight.detach().to(dtype)

    def hidden(self, ids: Tensor) -> Tensor:
        """(windows, context) -> (windows, context, d)."""
        embedded = self.model.get_input_embeddings()(ids.long()).float()
        with torch.autocast(embedded.device.type, self._dtype, enabled=self._dtype != torch.float32):
            states: Tensor = self.model.get_decoder()(
                inputs_embeds=embedded, use_cache=False
            ).last_hidden_state
        return states

    def head(self) -> Head:
        """The output matrix in the dtype of products, with its gradient when it learns."""
        if self._frozen is not None:
            return Head(self._frozen, self._softcap)
        return Head(self.model.get_output_embeddings().weight.to(self._dtype), self._softcap)
