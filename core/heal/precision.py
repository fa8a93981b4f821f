# SPDX-License-Identifier: Apache-2.0
"""In which precision products are made, and models that have their frozen weights in it."""

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize


def chosen_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of products for "auto", "float32" or "bfloat16" on `device`."""
    if precision != "auto":
        found: torch.dtype = getattr(torch, precision)
        return found
    return torch.bfloat16 if _multiplies_bfloat16(device) else torch.float32


def freeze_in(model: Any, dtype: torch.dtype) -> None:
    """Store linear layers that do not learn in `dtype`, as autocast would cast them at every step.

    The head stays: it may be the table of embeddings, too.
    """
    head = model.get_output_embeddings()
    for module in model.modules():
        is_plain = isinstance(module, nn.Linear) and not parametrize.is_parametrized(module)
        learns = any(one.requires_grad for one in module.parameters())
        if is_plain and module is not head and not learns:
            module.to(dtype)


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the hardware has instructions for it: without them a CPU is slower in it, not faster."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
