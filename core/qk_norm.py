# SPDX-License-Identifier: Apache-2.0
"""Layers that norm every head's query and key before RoPE (Qwen3, Gemma 3), as canonical layers.

norm(W_k x) is not linear in x, so no down projection of x can make it. It is linear in

    u = [normed queries; normed keys; values],    n_h d_h + 2 n_kv d_h numbers,

so such a layer is converted as if u were its input, with W_q = [I 0 0], W_k = [0 I 0] and W_v = [0 0 I]. All
mathematics of the engine holds as it is, with moments of u in the place of moments of x. What ships keeps the
original's projections and norms in front, and behind them a map of each head's query and a map of [normed
keys; values] into the latent.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from core.calibrate.layer_statistics import LayerStatistics


def picked(queries: int, keys: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(W_q, W_k, W_v) over u: (queries, w), (keys, w) and (keys, w) with w = queries + 2 keys."""
    eye = torch.eye(queries + 2 * keys, dtype=like.dtype, device=like.device)
    return eye[:queries], eye[queries:-keys], eye[-keys:]


def queries_apart(statistics: LayerStatistics, queries: int) -> LayerStatistics:
    """The moments of u with queries uncorrelated to the rest, and their mean left out.

    No stage looks at queries together with keys or values, and the latent reads keys and values only: a
    metric with these blocks apart sees to that, whatever the rank of the moments.
    """
    mean = statistics.input_mean.clone()
    mean[:queries] = 0
    fisher_input, fisher_mean = statistics.fisher_input, statistics.fisher_mean
    if fisher_input is not None and fisher_mean is not None:
        fisher_input = torch.stack([_apart(part, queries) for part in fisher_input])
        fisher_mean = fisher_mean.clone()
        fisher_mean[:, :queries] = 0
    return replace(
        statistics,
        input_covariance=_apart(statistics.input_covariance, queries),
        input_mean=mean,
        fisher_input=fisher_input,
        fisher_mean=fisher_mean,
    )


def behind_norms(
    tensors: Mapping[str, Tensor], front: Mapping[str, Tensor], heads: int, queries: int
) -> dict[str, Tensor]:
    """A canonical layer over u as the model file has it: `front`, and the maps behind the norms.

    q_proj.weight (n_h (d_n + d_r), w) -> q_b_proj.weight (n_h (d_n + d_r), d_h): what each head reads of its
    own query, and there is nothing else it could read. kv_a_proj_with_mqa.weight loses the query columns.
    """
    maps = tensors["q_proj.weight"].unflatten(0, (heads, -1))
    own = [part.tensor_split(heads, dim=1)[head] for head, part in enumerate(maps[..., :queries])]
    down = tensors["kv_a_proj_with_mqa.weight"][:, queries:]
    rest = {name: tensor for name, tensor in tensors.items() if name != "q_proj.weight"}
    return rest | {
        **front,
        "q_b_proj.weight": torch.cat(own).contiguous(),
        "kv_a_proj_with_mqa.weight": down.contiguous(),
    }


def _apart(moments: Tensor, queries: int) -> Tensor:
    found: Tensor = torch.block_diag(moments[:queries, :queries], moments[queries:, queries:])
    return found
