# SPDX-License-Identifier: Apache-2.0
"""Few bits after healing: what is cached has moved, so basis and scales are made for it anew.

The same basis as a conversion's (core/factor/latent_grid.py), but of the latents that the healed model gives.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from core.factor.latent_grid import WORK, grid, level, unmix
from core.factor.svd import Factors
from core.modeling import LatentAttention


class _Moments:
    """Mean and centred covariance of rows (..., n), in float64."""

    def __init__(self) -> None:
        self._rows, self._sum, self._squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, module: Any, given: Any, rows: Tensor) -> None:
        """A forward hook."""
        rows = rows.flatten(0, -2).to(WORK)
        self._rows += len(rows)
        self._sum = self._sum.to(rows) + rows.sum(0)
        self._squares = self._squares.to(rows) + rows.T @ rows

    @property
    def mean(self) -> Tensor:
        return self._sum / self._rows

    @property
    def covariance(self) -> Tensor:
        return self._squares / self._rows - torch.outer(self.mean, self.mean)


@torch.no_grad()
def rescaled(model: Any, windows: Iterable[Tensor]) -> dict[str, Tensor]:
    """Tensors of every layer whose cache has few bits, by their names in the checkpoint.

    model: a converted one, left as it is; windows: token ids (n, t) each, on its device. What the model gives
    with a cache in its own dtype does not change.
    """
    found = {name: one for name, one in model.named_modules() if _has_few_bits(one)}
    moments = {name: _Moments() for name in found}
    hooks = [one.kv_a_proj_with_mqa.register_forward_hook(moments[name].add) for name, one in found.items()]
    for ids in windows if found else ():
        # the decoder alone fills no cache: latents come as they are made
        model.get_decoder()(input_ids=ids.long(), use_cache=False)
    for hook in hooks:
        hook.remove()
    return {
        f"{path}.{name}": tensor
        for path, one in found.items()
        for name, tensor in _tensors(one, moments[path]).items()
    }


def _has_few_bits(module: Any) -> bool:
    return isinstance(module, LatentAttention) and module.is_quantised


def _tensors(layer: LatentAttention, moments: _Moments) -> dict[str, Tensor]:
    """Another basis J of the latent, and the scales of J c and of the rotary keys."""
    shape, down = layer.shape, layer.kv_a_proj_with_mqa
    assert isinstance(down, torch.nn.Linear)  # few bits choose the basis, so it is no block identity
    rank, whole = shape.kv_lora_rank, shape.kv_lora_rank + shape.cached_rope_numbers
    weight = down.weight.to(WORK)
    identity = torch.eye(whole, dtype=WORK, device=weight.device)
    covariance, mean = moments.covariance, moments.mean
    ups = (layer.k_b_proj.weight.to(WORK), layer.v_b_proj.weight.to(WORK))
    own = covariance[:rank, :rank]
    factors = level(unmix(Factors(identity[:rank, :rank], *ups), own), own)
    change = identity.clone()
    change[:rank, :rank] = factors.down
    # a rotary key as a linear map of [what is cached; 1]
    rope = torch.nn.functional.pad(identity[rank:], (0, 1))
    rope = rope.view(shape.groups, shape.qk_rope_head_dim, whole + 1)
    scale, zero = grid(change[:rank], rope, covariance, mean)
    made = {
        "kv_a_proj_with_mqa.weight": change @ weight,
        "k_b_proj.weight": factors.k_up,
        "v_b_proj.weight": factors.v_up,
        "kv_scale": scale,
        "kv_zero": zero,
    }
    if down.bias is not None:
        made["kv_a_proj_with_mqa.bias"] = change @ down.bias.to(WORK)
    return {name: one.float() for name, one in made.items() if one.numel()}
